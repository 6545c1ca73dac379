//! What is wrong or risky in a configuration, each with its key and its place.

use std::fmt;

use super::tree::Source;

/// One thing that is wrong or risky.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    /// The setting, as `limits.rate.burst`.
    pub(crate) key: String,
    /// Where it was set.
    pub(crate) source: Source,
    /// What is wrong with it, following the key in a sentence.
    pub(crate) text: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.source {
            Source::Default => write!(out, "{}: {}", self.key, self.text),
            source => write!(out, "{source}: {}: {}", self.key, self.text),
        }
    }
}

/// Everything found so far: all of it is told at once, since nobody likes to mend a file error by error.
#[derive(Clone, Debug, Default)]
pub(crate) struct Problems {
    /// With any of these nothing is started.
    pub(crate) refused: Vec<Problem>,
    /// These work, and will surprise somebody some day.
    pub(crate) risky: Vec<Problem>,
}

impl Problems {
    pub(crate) fn refuse(&mut self, key: impl Into<String>, source: Source, text: impl Into<String>) {
        self.refused.push(Problem { key: key.into(), source, text: text.into() });
    }

    pub(crate) fn warn(&mut self, key: impl Into<String>, source: Source, text: impl Into<String>) {
        self.risky.push(Problem { key: key.into(), source, text: text.into() });
    }
}

/// A configuration that can't be used, with every reason.
#[derive(Debug, thiserror::Error)]
#[error("the configuration is refused:\n{}", self.0.iter().map(|problem| format!("  {problem}")).collect::<Vec<_>>().join("\n"))]
pub(crate) struct Refused(pub(crate) Vec<Problem>);
