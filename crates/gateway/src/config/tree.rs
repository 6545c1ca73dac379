//! What was configured before it means anything: values with the place each came from.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Where a value stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// Nobody said anything.
    Default,
    /// A line of the file, counted from 1.
    Line(usize),
    /// An environment variable.
    Variable(Box<str>),
}

impl fmt::Display for Source {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => out.write_str("default"),
            Self::Line(line) => write!(out, "line {line}"),
            Self::Variable(name) => write!(out, "environment {name}"),
        }
    }
}

/// A value and its place.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) value: Value,
    pub(crate) source: Source,
}

/// A value as it was written.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    /// A TOML string.
    Text(String),
    /// Text without quotes, whose type its reader knows: defaults and environment variables.
    Bare(String),
    Integer(i64),
    /// Flags, fractions and dates: no setting is one.
    Other(&'static str),
    Array(Vec<Node>),
    Table(BTreeMap<String, Node>),
}

impl Value {
    /// What it is, for messages.
    pub(crate) const fn kind(&self) -> &'static str {
        match self {
            Self::Text(_) | Self::Bare(_) => "a text",
            Self::Integer(_) => "a number",
            Self::Other(kind) => kind,
            Self::Array(_) => "a list",
            Self::Table(_) => "a table",
        }
    }
}

/// Why a text is not TOML.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NotToml {
    pub(crate) line: usize,
    pub(crate) problem: String,
}

/// Reads a file's text.
pub(crate) fn parse(text: &str) -> Result<Node, NotToml> {
    let table = DeTable::parse(text).map_err(|error| not_toml(text, &error))?;
    let lines = Lines::of(text);
    Ok(lines.table(table.get_ref(), Source::Line(1)))
}

/// Reads a value of an environment variable: a TOML list or table if it looks like one, else a bare text.
pub(crate) fn parse_variable(name: &str, text: &str) -> Result<Node, NotToml> {
    let source = Source::Variable(name.into());
    if !text.trim_start().starts_with(['[', '{']) {
        return Ok(Node { value: Value::Bare(text.to_owned()), source });
    }
    let value = DeValue::parse(text).map_err(|error| not_toml(text, &error))?;
    let mut node = Lines::of(text).node(&value, Source::Default);
    node.stamp(&source);
    Ok(node)
}

impl Node {
    fn stamp(&mut self, source: &Source) {
        self.source = source.clone();
        match &mut self.value {
            Value::Array(items) => items.iter_mut().for_each(|item| item.stamp(source)),
            Value::Table(entries) => entries.values_mut().for_each(|entry| entry.stamp(source)),
            Value::Text(_) | Value::Bare(_) | Value::Integer(_) | Value::Other(_) => {}
        }
    }
}

fn not_toml(text: &str, error: &toml::de::Error) -> NotToml {
    let line = error.span().map_or(1, |span| Lines::of(text).at(span.start));
    NotToml { line, problem: error.message().to_owned() }
}

/// Turns offsets into lines.
struct Lines(Vec<usize>);

impl Lines {
    fn of(text: &str) -> Self {
        Self(text.bytes().enumerate().filter(|&(_, byte)| byte == b'\n').map(|(at, _)| at).collect())
    }

    fn at(&self, offset: usize) -> usize {
        self.0.partition_point(|&newline| newline < offset) + 1
    }

    fn source(&self, span: Range<usize>) -> Source {
        Source::Line(self.at(span.start))
    }

    fn node(&self, spanned: &Spanned<DeValue<'_>>, source: Source) -> Node {
        let value = match spanned.get_ref() {
            DeValue::String(text) => Value::Text(text.clone().into_owned()),
            DeValue::Integer(number) => {
                let digits = number.as_str().replace('_', "");
                i64::from_str_radix(&digits, number.radix()).map_or(Value::Other("a number that is too large"), Value::Integer)
            }
            DeValue::Float(_) => Value::Other("a fraction"),
            DeValue::Boolean(_) => Value::Other("true or false"),
            DeValue::Datetime(_) => Value::Other("a date"),
            DeValue::Array(items) => Value::Array(items.iter().map(|item| self.node(item, self.source(item.span()))).collect()),
            DeValue::Table(table) => return self.table(table, source),
        };
        Node { value, source }
    }

    /// A value's line is its key's: that is where one looks for it.
    fn table(&self, table: &DeTable<'_>, source: Source) -> Node {
        let entries = table.iter().map(|(key, value)| (key.get_ref().clone().into_owned(), self.node(value, self.source(key.span()))));
        Node { value: Value::Table(entries.collect()), source }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at<'a>(node: &'a Node, key: &str) -> &'a Node {
        match &node.value {
            Value::Table(entries) => &entries[key],
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_value_knows_its_line() {
        let root = parse("# hello\n[a]\nb = 1\n\n[[c]]\nd = [\n  \"x\",\n  2,\n]\n").unwrap();
        assert_eq!(at(at(&root, "a"), "b").source, Source::Line(3));
        let Value::Array(rules) = &at(&root, "c").value else { panic!() };
        let list = at(&rules[0], "d");
        assert_eq!(list.source, Source::Line(6));
        let Value::Array(items) = &list.value else { panic!() };
        assert_eq!(items[1].source, Source::Line(8));
    }

    #[test]
    fn what_is_not_toml_is_told_with_its_line() {
        assert_eq!(parse("a = 1\nb = \n").unwrap_err().line, 2);
        assert_eq!(parse("a = 1\na = 2\n").unwrap_err().line, 2);
    }

    #[test]
    fn variables_hold_texts_lists_and_tables() {
        assert!(matches!(parse_variable("V", "25s").unwrap().value, Value::Bare(text) if text == "25s"));
        let Value::Array(items) = parse_variable("V", "['a', 'b']").unwrap().value else { panic!() };
        assert_eq!(items[1].source, Source::Variable("V".into()));
        assert!(parse_variable("V", "[").is_err());
    }
}
