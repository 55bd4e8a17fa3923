//! Webhooks: an array of records, records as lines, or one request for each record by a template.

use super::client::{Answer, Head};
use super::{Http, HttpError, Judgement, Service};
use crate::config::{self, Body};
use crate::output::format::{Template, Writer};
use crate::output::remote::secret::{self, SecretError};
use crate::output::schema::Layout;
use crate::output::spool::{Target, UnitRecord};

/// A sink to the server of `sink`; `layout` has its fields.
///
/// # Errors
/// [`HttpError`].
pub fn webhook(sink: &config::Webhook, layout: &Layout) -> Result<Box<dyn Target>, HttpError> {
    let failed = |error: &dyn std::fmt::Display| HttpError::Client(error.to_string());
    let writer = Writer::new(sink.format, layout).map_err(|error| failed(&error))?;
    let template = Template::new(&sink.template, layout).map_err(|error| failed(&error))?;
    let mut http = sink.http.clone();
    if sink.body == Body::Template {
        http.batch_records_max = 1;
    }
    let service = Webhook { sink: sink.clone(), writer, template };
    Ok(Box::new(Http::new(service, &http, &sink.tls)?))
}

struct Webhook {
    sink: config::Webhook,
    writer: Writer,
    template: Template,
}

impl Service for Webhook {
    fn item(&mut self, out: &mut Vec<u8>, record: &UnitRecord<'_>, first: bool) {
        match self.sink.body {
            Body::Array => {
                out.push(if first { b'[' } else { b',' });
                self.writer.record(out, record);
            }
            Body::Ndjson => self.writer.line(out, record),
            Body::Template => self.template.write(out, record),
        }
    }

    fn end(&self, out: &mut Vec<u8>) {
        if self.sink.body == Body::Array {
            out.push(b']');
        }
    }

    fn head(&self) -> Result<Head, SecretError> {
        let (url, shown) = match &self.sink.url_secret {
            Some(place) => {
                (secret::reveal(place)?.expose().to_owned(), "the webhook at url_secret".to_owned())
            }
            None => (self.sink.url.clone(), self.sink.url.clone()),
        };
        let headers = self.sink.headers.iter().map(|(name, value)| (name.clone(), value.clone()));
        let mut headers: Vec<_> = headers.collect();
        if let Some(place) = &self.sink.authorization {
            headers.push(("Authorization".to_owned(), secret::reveal(place)?.expose().to_owned()));
        }
        let content_type = match self.sink.body {
            Body::Ndjson => "application/x-ndjson",
            Body::Array | Body::Template => "application/json",
        };
        Ok(Head { url, shown, content_type, headers })
    }

    /// Any status of 200 to 299 is an acknowledgement.
    fn judge(&mut self, _: &Answer, _: usize) -> Judgement {
        Judgement::default()
    }
}
