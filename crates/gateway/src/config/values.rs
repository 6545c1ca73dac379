//! The kinds of values that settings have, and how each is written.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use bytesize::ByteSize;
use ipnet::IpNet;
use tidegate::{Origin, OutboundMemory, Pattern};

use super::schema::{Key, Reader, Setting};
use super::tree::{Node, Value};

/// A number of bytes, written as `512KiB`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Size(pub(crate) u64);

/// A duration, or `off`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OrOff(pub(crate) Option<Duration>);

/// A setting that is documented for a later version: any value is refused, honestly.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct NotYet;

impl Size {
    /// As an amount of memory; the largest there is on machines whose memory is smaller than the number.
    pub(crate) fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(&str, u64); 4] = [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
        match UNITS.iter().find(|(_, size)| self.0 >= *size) {
            None => write!(out, "{} bytes", self.0),
            Some((unit, size)) if self.0.is_multiple_of(*size) => write!(out, "{} {unit}", self.0 / size),
            Some((unit, size)) => write!(out, "{:.1} {unit}", self.0 as f64 / *size as f64),
        }
    }
}

impl fmt::Debug for Size {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

/// A value's text, if it is one.
pub(crate) fn text(node: &Node) -> Option<&str> {
    match &node.value {
        Value::Text(text) | Value::Bare(text) => Some(text),
        Value::Integer(_) | Value::Other(_) | Value::Array(_) | Value::Table(_) => None,
    }
}

/// Reads a value from its text.
fn by_text<T>(node: &Node, key: &str, reader: &mut Reader<'_>, shape: &str, parse: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
    let Some(text) = text(node) else {
        return reader.refuse(node, key, format!("is {}, and has to be {shape}", node.value.kind()));
    };
    parse(text).map_or_else(|problem| reader.refuse(node, key, format!("\"{text}\" is not {shape}{problem}")), Some)
}

macro_rules! numbers {
    ($($type:ty),*) => {$(
        impl Setting for $type {
            const SHAPE: &'static str = "number";

            fn read(node: &Node, key: &str, reader: &mut Reader<'_>) -> Option<Self> {
                let number = match &node.value {
                    Value::Integer(number) => Self::try_from(*number).ok(),
                    Value::Bare(text) => text.parse().ok(),
                    Value::Text(_) | Value::Other(_) | Value::Array(_) | Value::Table(_) => None,
                };
                match number {
                    Some(number) => Some(number),
                    None => reader.refuse(node, key, format!("has to be a whole number of 0 to {}", Self::MAX)),
                }
            }
        }
    )*};
}
numbers!(u32, u64, usize);

impl Setting for String {
    const SHAPE: &'static str = "text";

    fn read(node: &Node, key: &str, reader: &mut Reader<'_>) -> Option<Self> {
        by_text(node, key, reader, "a text", |text| Ok(text.to_owned()))
    }
}

impl Setting for Duration {
    const SHAPE: &'static str = "duration";

    fn read(node: &Node, key: &str, reader: &mut Reader<'_>) -> Option<Self> {
        by_text(node, key, reader, "a duration such as \"25s\", \"500ms\" or \"1h 30m\"", |text| {
            humantime::parse_duration(text).map_err(|error| format!(" ({error})"))
        })
    }
}

impl Setting for OrOff {
    const SHAPE: &'static str = "duration or \"off\"";

    fn read(node: &Node, key: &str, reader: &mut Reader<'_>) -> Option<Self> {
        match text(node) {
            Some("off") => Some(Self(None)),
            _ => Duration::read(node, key, reader).map(|span| Self(Some(span))),
        }
    }
}

impl Setting for Size {
    const SHAPE: &'static str = "size";

    fn read(node: &Node, key: &str, reader: &mut Reader<'_>) -> Option<Self> {
        if let Value::Integer(bytes) = node.value {
            return u64::try_from(bytes).ok().map(Self).or_else(|| reader.refuse(node, key, "is negative"));
        }
        by_text(node, key, reader, "a size such as \"512KiB\" or \"64MiB\"", parse_size)
    }
}

fn parse_size(text: &str) -> Result<Size, String> {
    ByteSize::from_str(text).map(|size| Size(size.as_u64())).map_err(|_| String::new())
}

impl Setting for OutboundMemory {
    const SHAPE: &'static str = "size or percentage";

    fn read(node: &Node, key: &str, reader: &mut Reader<'_>) -> Option<Self> {
        if let Value::Integer(bytes) = node.value {
            return u64::try_from(bytes).ok().map(Self::Bytes).or_else(|| reader.refuse(node, key, "is negative"));
        }
        by_text(node, key, reader, "a size such as \"2GiB\" or a percentage of 1% to 100%", |text| match text.strip_suffix('%') {
            None => parse_size(text).map(|size| Self::Bytes(size.0)),
            Some(percent) => match percent.trim().parse::<u8>() {
                Ok(percent @ 1..=100) => Ok(Self::Percent(percent)),
                _ => Err(String::new()),
            },
        })
    }
}

impl Setting for SocketAddr {
    const SHAPE: &'static str = "address";

    fn read(node: &Node, key: &str, reader: &mut Reader<'_>) -> Option<Self> {
        by_text(node, key, reader, "an address and port such as \"127.0.0.1:8000\" or \"[::]:8000\"", |text| {
            text.parse().map_err(|_| String::new())
        })
    }
}

impl Setting for IpNet {
    const SHAPE: &'static str = "network";

    fn read(node: &Node, key: &str, reader: &mut Reader<'_>) -> Option<Self> {
        by_text(node, key, reader, "a network such as \"10.0.0.0/8\"", |text| text.parse().map_err(|_| String::new()))
    }
}

impl Setting for Origin {
    const SHAPE: &'static str = "origin";

    fn read(node: &Node, key: &str, reader: &mut Reader<'_>) -> Option<Self> {
        by_text(node, key, reader, "an origin such as \"https://app.example.com\"", |text| match text {
            "*" => Err(": every page of the web could connect; list the pages that may".to_owned()),
            _ => Self::parse(text).map_err(|error| format!(" ({error})")),
        })
    }
}

impl Setting for Pattern {
    const SHAPE: &'static str = "pattern";

    fn read(node: &Node, key: &str, reader: &mut Reader<'_>) -> Option<Self> {
        by_text(node, key, reader, "a channel pattern such as \"build:*\" or \"chat:**\"", |text| {
            Self::new(text).map_err(|error| format!(" ({error})"))
        })
    }
}

impl Setting for NotYet {
    const SHAPE: &'static str = "not in this version yet";

    fn read(node: &Node, key: &str, reader: &mut Reader<'_>) -> Option<Self> {
        match text(node) {
            Some("") => Some(Self),
            _ => reader.refuse(node, key, "is not in this version yet"),
        }
    }
}

impl<T: Setting> Setting for Option<T> {
    const SHAPE: &'static str = T::SHAPE;
    const KEYS: &'static [Key] = T::KEYS;

    fn read(node: &Node, key: &str, reader: &mut Reader<'_>) -> Option<Self> {
        match &node.value {
            Value::Bare(text) if text.is_empty() => Some(None),
            _ => T::read(node, key, reader).map(Some),
        }
    }
}

impl<T: Setting> Setting for Vec<T> {
    const SHAPE: &'static str = "list";
    const KEYS: &'static [Key] = T::KEYS;

    /// In the environment a list may also be written with commas between its items.
    fn read(node: &Node, key: &str, reader: &mut Reader<'_>) -> Option<Self> {
        let bare = |text: &str| Node { value: Value::Bare(text.trim().to_owned()), source: node.source.clone() };
        let items: Vec<Node> = match &node.value {
            Value::Array(items) => items.clone(),
            Value::Bare(text) => text.split(',').filter(|item| !item.trim().is_empty()).map(bare).collect(),
            other => return reader.refuse(node, key, format!("is {}, and has to be a list of {}s", other.kind(), T::SHAPE)),
        };
        // All of them are read before the first that is wrong ends it.
        let read: Vec<Option<T>> = items.iter().enumerate().map(|(at, item)| reader.item(item, &format!("{key}.{at}"))).collect();
        read.into_iter().collect()
    }
}

/// Declares a setting that is one of a few words.
macro_rules! words {
    ($(#[doc = $head:literal])* $name:ident = $shape:literal { $($(#[doc = $about:literal])* $variant:ident = $word:literal,)* }) => {
        $(#[doc = $head])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum $name { $($(#[doc = $about])* $variant,)* }

        impl $crate::config::schema::Setting for $name {
            const SHAPE: &'static str = $shape;

            fn read(
                node: &$crate::config::tree::Node,
                key: &str,
                reader: &mut $crate::config::schema::Reader<'_>,
            ) -> Option<Self> {
                match $crate::config::values::text(node) {
                    $(Some($word) => Some(Self::$variant),)*
                    _ => reader.refuse(node, key, concat!("has to be ", $shape)),
                }
            }
        }
    };
}
pub(crate) use words;
