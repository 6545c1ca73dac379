//! A line as the API takes it: the channel, an id of its own, and the data as JSON.

use serde::Serialize;
use serde_json::value::RawValue;
use ulid::Ulid;

/// What is the same for every line.
#[derive(Debug)]
pub(super) struct Envelope {
    channel: String,
    key: Option<String>,
}

#[derive(Serialize)]
struct Message<'a, D> {
    channel: &'a str,
    message_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
    data: D,
}

impl Envelope {
    pub(super) fn new(channel: &str, key: Option<&str>) -> Self {
        Self { channel: channel.to_owned(), key: key.map(str::to_owned) }
    }

    /// Wraps a line, its end included.
    pub(super) fn wrap(&self, line: &[u8]) -> String {
        let text = String::from_utf8_lossy(line);
        let mut wrapped = match as_json(&text) {
            Some(json) => self.message(json),
            None => self.message(&*text),
        };
        wrapped.push('\n');
        wrapped
    }

    fn message<D: Serialize>(&self, data: D) -> String {
        let message = Message { channel: &self.channel, message_id: Ulid::new().to_string(), key: self.key.as_deref(), data };
        // Texts and JSON: there is nothing in it that can't be written.
        serde_json::to_string(&message).unwrap_or_default()
    }
}

/// The line as JSON if it is. A number, a word or a string with space around it is a line of text that looks like one: as JSON it
/// would lose the space.
fn as_json(text: &str) -> Option<&RawValue> {
    let inner = text.trim_ascii();
    let looks_so = matches!(inner.as_bytes().first()?, b'{' | b'[') || inner.len() == text.len();
    if looks_so { serde_json::from_str(text).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_json_or_a_string() {
        let data = |line: &[u8]| {
            let wrapped = Envelope::new("a", None).wrap(line);
            assert!(wrapped.ends_with("}\n") && wrapped.matches('\n').count() == 1);
            wrapped.split_once(r#""data":"#).unwrap().1.trim_end_matches("}\n").to_owned()
        };
        for (line, expected) in [
            ("1.50", "1.50"),
            ("12345678901234567890123", "12345678901234567890123"),
            (" 42", r#"" 42""#),
            ("true", "true"),
            ("hello", r#""hello""#),
            ("say \"hi\"", r#""say \"hi\"""#),
            (r#"{"a" : [1, 2]}"#, r#"{"a" : [1, 2]"#),
            ("", r#""""#),
            ("{", r#""{""#),
            ("\u{1b}[31mred\u{1b}[0m", r#""\u001b[31mred\u001b[0m""#),
        ] {
            assert_eq!(data(line.as_bytes()).trim_end_matches('}'), expected.trim_end_matches('}'), "{line}");
        }
        assert_eq!(data(b"\xff"), "\"\u{fffd}\"");
    }

    #[test]
    fn every_message_has_an_id_of_its_own() {
        let envelope = Envelope::new("a", Some("k"));
        let id = |text: String| serde_json::from_str::<serde_json::Value>(&text).unwrap()["message_id"].clone();
        assert_ne!(id(envelope.wrap(b"x")), id(envelope.wrap(b"x")));
        assert!(envelope.wrap(b"x").contains(r#""key":"k""#));
    }
}
