//! Settings from the environment: `TIDEGATE__LIMITS__RATE__PER_SECOND=50` is `limits.rate.per_second`.

use std::collections::BTreeMap;

use super::problem::Problems;
use super::tree::{self, Node, Source, Value};

const PREFIX: &str = "TIDEGATE__";

/// The process's environment as it was at one moment. Variables that are not UTF-8 can't be settings and are left out.
#[derive(Clone, Debug, Default)]
pub(crate) struct Environment(pub(crate) BTreeMap<String, String>);

impl Environment {
    /// Now.
    pub(crate) fn capture() -> Self {
        Self(std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))).collect())
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Puts what the variables say over what the file says. A list's items are numbered from 0 (`TIDEGATE__CHANNEL__0__KIND`).
    pub(crate) fn overlay(&self, root: &mut Node, problems: &mut Problems) {
        for (name, text) in &self.0 {
            let Some(path) = name.strip_prefix(PREFIX) else { continue };
            let segments: Vec<String> = path.split("__").map(str::to_lowercase).collect();
            let source = Source::Variable(name.as_str().into());
            match tree::parse_variable(name, text) {
                Err(error) => problems.refuse(segments.join("."), source, format!("is not a value: {}", error.problem)),
                Ok(node) => {
                    if !put(root, &segments, node) {
                        problems.refuse(segments.join("."), source, "names something inside of a value that has no inside");
                    }
                }
            }
        }
    }
}

/// Sets the value at a path, making tables on the way. False where something else is in the way.
fn put(place: &mut Node, path: &[String], node: Node) -> bool {
    let Some((key, rest)) = path.split_first() else {
        *place = node;
        return true;
    };
    let source = node.source.clone();
    match &mut place.value {
        Value::Table(entries) => {
            put(entries.entry(key.clone()).or_insert_with(|| Node { value: Value::Table(BTreeMap::new()), source }), rest, node)
        }
        Value::Array(items) => match key.parse::<usize>() {
            Ok(at) if at < items.len() => put(&mut items[at], rest, node),
            Ok(at) if at == items.len() => {
                items.push(Node { value: Value::Table(BTreeMap::new()), source });
                put(&mut items[at], rest, node)
            }
            _ => false,
        },
        Value::Text(_) | Value::Bare(_) | Value::Integer(_) | Value::Other(_) => false,
    }
}
