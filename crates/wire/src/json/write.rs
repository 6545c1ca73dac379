//! Writes one object, field by field, without a tree.

use std::time::Duration;

use tidegate_core::Position;

use super::INTEGER_MAX;

/// An object under way. Names and `plain` values are written as they are, so they must need no escape.
#[must_use = "an object has to be closed by `end`"]
pub(super) struct Object<'a> {
    out: &'a mut Vec<u8>,
    is_empty: bool,
}

impl<'a> Object<'a> {
    pub(super) fn new(out: &'a mut Vec<u8>) -> Self {
        out.push(b'{');
        Self { out, is_empty: true }
    }

    /// A message's type.
    pub(super) fn kind(self, kind: &str) -> Self {
        self.plain("type", kind)
    }

    pub(super) fn end(self) {
        self.out.push(b'}');
    }

    pub(super) fn plain(self, name: &str, value: &str) -> Self {
        self.with(name, |out| {
            out.push(b'"');
            out.extend_from_slice(value.as_bytes());
            out.push(b'"');
        })
    }

    pub(super) fn text(self, name: &str, value: &str) -> Self {
        self.with(name, |out| quote(value, out))
    }

    pub(super) fn text_or_null(self, name: &str, value: Option<&str>) -> Self {
        match value {
            Some(value) => self.text(name, value),
            None => self.raw(name, b"null"),
        }
    }

    pub(super) fn number(self, name: &str, value: u64) -> Self {
        self.with(name, |out| decimal(value, out))
    }

    pub(super) fn number_or_null(self, name: &str, value: Option<u64>) -> Self {
        match value {
            Some(value) => self.number(name, value),
            None => self.raw(name, b"null"),
        }
    }

    /// Whole milliseconds; what is longer than a JSON integer can say is said as the longest.
    pub(super) fn duration(self, name: &str, value: Duration) -> Self {
        let ms = u64::try_from(value.as_millis()).unwrap_or(INTEGER_MAX);
        self.number(name, ms.min(INTEGER_MAX))
    }

    pub(super) fn duration_or_null(self, name: &str, value: Option<Duration>) -> Self {
        match value {
            Some(value) => self.duration(name, value),
            None => self.raw(name, b"null"),
        }
    }

    pub(super) fn flag(self, name: &str, value: bool) -> Self {
        self.raw(name, if value { b"true" } else { b"false" })
    }

    /// JSON, as it is.
    pub(super) fn raw(self, name: &str, json: &[u8]) -> Self {
        self.with(name, |out| out.extend_from_slice(json))
    }

    pub(super) fn position(self, name: &str, position: Position) -> Self {
        self.object(name, |object| object.plain("epoch", &position.epoch.to_string()).number("offset", position.offset))
    }

    pub(super) fn position_or_null(self, name: &str, position: Option<Position>) -> Self {
        match position {
            Some(position) => self.position(name, position),
            None => self.raw(name, b"null"),
        }
    }

    pub(super) fn object(self, name: &str, write: impl FnOnce(Object<'_>) -> Object<'_>) -> Self {
        self.with(name, |out| write(Object::new(out)).end())
    }

    pub(super) fn texts(self, name: &str, values: &[Box<str>]) -> Self {
        self.array(name, values, |value, out| quote(value, out))
    }

    pub(super) fn array<T>(self, name: &str, values: &[T], write: impl Fn(&T, &mut Vec<u8>)) -> Self {
        self.with(name, |out| {
            out.push(b'[');
            for (at, value) in values.iter().enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                write(value, out);
            }
            out.push(b']');
        })
    }

    pub(super) fn optional<T>(self, value: Option<T>, write: impl FnOnce(Self, T) -> Self) -> Self {
        match value {
            Some(value) => write(self, value),
            None => self,
        }
    }

    fn with(mut self, name: &str, write: impl FnOnce(&mut Vec<u8>)) -> Self {
        if !std::mem::take(&mut self.is_empty) {
            self.out.push(b',');
        }
        self.out.push(b'"');
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"\":");
        write(self.out);
        self
    }
}

/// A JSON string (RFC 8259 section 7): what has to be escaped is, nothing else.
fn quote(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    let mut written = 0;
    let bytes = text.as_bytes();
    for (at, &byte) in bytes.iter().enumerate() {
        if escape_len(byte) == 1 {
            continue;
        }
        out.extend_from_slice(&bytes[written..at]);
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            control => {
                const HEX: &[u8; 16] = b"0123456789abcdef";
                out.extend_from_slice(&[b'\\', b'u', b'0', b'0', HEX[usize::from(control >> 4)], HEX[usize::from(control & 15)]]);
            }
        }
        written = at + 1;
    }
    out.extend_from_slice(&bytes[written..]);
    out.push(b'"');
}

/// How long a text is as a JSON string, quotes included.
pub(super) fn quoted_len(text: &str) -> usize {
    2 + text.bytes().map(escape_len).sum::<usize>()
}

const fn escape_len(byte: u8) -> usize {
    match byte {
        b'"' | b'\\' => 2,
        0..0x20 => 6,
        _ => 1,
    }
}

fn decimal(number: u64, out: &mut Vec<u8>) {
    const LONGEST: usize = 20;
    let mut digits = [0u8; LONGEST];
    let mut at = LONGEST;
    let mut rest = number;
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// How many digits a number has.
pub(super) const fn decimal_len(number: u64) -> usize {
    match number.checked_ilog10() {
        Some(log) => log as usize + 1,
        None => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_as_written() {
        for number in [0, 1, 9, 10, 99, 100, 12345, INTEGER_MAX, u64::MAX] {
            let mut out = Vec::new();
            decimal(number, &mut out);
            assert_eq!(String::from_utf8(out.clone()), Ok(number.to_string()));
            assert_eq!(out.len(), decimal_len(number));
        }
    }

    #[test]
    fn texts_read_as_written() {
        let all: String = (0..0x180).filter_map(char::from_u32).chain(['😀', '"', '\u{2028}']).collect();
        let mut out = Vec::new();
        quote(&all, &mut out);
        assert_eq!(serde_json::from_slice::<String>(&out).ok().as_deref(), Some(all.as_str()));
        assert_eq!(out.len(), quoted_len(&all));
    }
}
