//! `weir health`: is the sensor alive, and ready? For health checks of containers and for people.

use serde_json::Value;

use super::Failure;
use super::args::Health;
use crate::api;

pub(super) fn run(args: &Health) -> Result<(), Failure> {
    let address = super::admin_address(args.admin, &args.config)?;
    let path = if args.ready { "/readyz" } else { "/healthz" };
    let (status, body) = api::ask(address, path).map_err(|error| {
        Failure::Invalid(format!("no running sensor answers at {address}: {error}"))
    })?;
    let verdict: Value = serde_json::from_str(&body).unwrap_or_default();
    if status == 200 && verdict["status"] != "ok" {
        let message = format!("what answers at {address} is no sensor: {path} is not as expected");
        return Err(Failure::Invalid(message));
    }
    if status == 200 {
        return super::print(if args.ready { b"ready\n" } else { b"alive\n" });
    }
    super::print(reasons(status, &body).as_bytes())?;
    Err(Failure::Findings)
}

/// A line for each reason that the sensor gives, or what it answered instead.
fn reasons(status: u16, body: &str) -> String {
    let verdict: Value = serde_json::from_str(body).unwrap_or_default();
    match verdict["reasons"].as_array() {
        Some(reasons) => reasons
            .iter()
            .map(|reason| format!("{}\n", reason.as_str().unwrap_or_default()))
            .collect(),
        None => format!("answered {status}: {body}\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_stand_on_lines_of_their_own() {
        let check = |body: &str, want: &str| assert_eq!(reasons(503, body), want, "{body}");
        check(
            r#"{"status":"unavailable","reasons":["a is down","b is full"]}"#,
            "a is down\nb is full\n",
        );
        check(r#"{"status":"unavailable","reasons":[]}"#, "");
        check("Bad Gateway", "answered 503: Bad Gateway\n");
    }
}
