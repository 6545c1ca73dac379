//! Secrets: named by where they are (`env:NAME`, `file:PATH`), read once, never shown.

use std::fmt;
use std::fs;

use super::schema::{Reader, Setting};
use super::tree::{Node, Source};
use super::values::text;

/// A secret's bytes. It has no `Display`, and its `Debug` says only that it is one.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(Box<[u8]>);

impl Secret {
    /// The bytes, for a comparison in constant time.
    pub(crate) const fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Secret(…)")
    }
}

impl Setting for Secret {
    const SHAPE: &'static str = "secret (\"env:NAME\" or \"file:PATH\")";

    /// No message shows what was found: whoever forgot the `env:` would read the secret in the log.
    fn read(node: &Node, key: &str, reader: &mut Reader<'_>) -> Option<Self> {
        let Some(place) = text(node) else {
            return reader.refuse(node, key, "has to name a secret, as \"env:NAME\" or \"file:PATH\"");
        };
        let secret = if let Some(name) = place.strip_prefix("env:") {
            match reader.environment.get(name) {
                Some(value) => value.as_bytes().into(),
                None => return reader.refuse(node, key, format!("the environment has no {name}")),
            }
        } else if let Some(path) = place.strip_prefix("file:") {
            match fs::read(path) {
                Ok(bytes) => bytes.trim_ascii().into(),
                Err(error) => return reader.refuse(node, key, format!("{path} can't be read: {error}")),
            }
        } else {
            if matches!(node.source, Source::Line(_)) {
                reader.problems.warn(
                    key,
                    node.source.clone(),
                    "stands in the file itself; \"env:NAME\" or \"file:PATH\" keeps it out of copies",
                );
            }
            Box::from(place.as_bytes())
        };
        let secret = Self(secret);
        if secret.0.is_empty() {
            return reader.refuse(node, key, "is empty");
        }
        if secret.0.len() < 16 {
            reader.problems.warn(key, node.source.clone(), "is shorter than 16 characters and can be guessed");
        }
        Some(secret)
    }
}
