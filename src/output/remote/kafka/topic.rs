//! Names of topics, by template.

use crate::output::schema::Stream;

/// The template of a topic's name, with all filled in but the site.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Topic {
    /// What stands between sites: one more than sites.
    parts: Vec<String>,
}

impl Topic {
    /// `template` with its names filled in. Letters that topics cannot have become `-`.
    #[must_use]
    pub fn new(template: &str, stream: Stream, select: &str, sensor: &str) -> Self {
        let stream = match stream {
            Stream::Slices => "slices",
            Stream::Alerts => "alerts",
        };
        let filled = template
            .replace("{stream}", stream)
            .replace("{select}", select)
            .replace("{sensor}", &legal(sensor));
        Self { parts: filled.split("{site}").map(str::to_owned).collect() }
    }

    /// The name, where all records have one.
    #[must_use]
    pub fn only(&self) -> Option<&str> {
        if let [name] = &*self.parts { Some(name) } else { None }
    }

    /// Writes the name for a record of `site` over `name`.
    pub fn write(&self, name: &mut String, site: &str) {
        name.clear();
        for (index, part) in self.parts.iter().enumerate() {
            if index > 0 {
                name.push_str(&legal(site));
            }
            name.push_str(part);
        }
    }
}

fn legal(name: &str) -> String {
    let legal = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' };
    name.chars().map(legal).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_filled_in() {
        let cases = [
            ("weir.{stream}", "weir.slices"),
            ("{sensor}_{select}", "edge-1-berlin_tagged"),
            ("{site}", "north"),
            ("a.{site}.{stream}.{site}", "a.north.slices.north"),
        ];
        for (template, want) in cases {
            let topic = Topic::new(template, Stream::Slices, "tagged", "edge 1/berlin");
            let mut name = "former".to_owned();
            topic.write(&mut name, "north");
            assert_eq!(name, want);
        }
    }
}
