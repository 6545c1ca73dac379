//! The configuration: a TOML file, overridden by the environment, read into one value or refused with every reason.

mod auth;
mod channel;
mod environment;
mod gate;
mod listeners;
mod meaning;
mod nearest;
mod node;
mod problem;
mod reference;
mod refusals;
mod risks;
mod schema;
mod secret;
mod session;
#[cfg(test)]
mod tests;
mod tree;
mod values;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

pub(crate) use environment::Environment;
pub(crate) use listeners::Certificate;
pub(crate) use meaning::{explain, tell_risks};
pub(crate) use problem::Refused;

pub(crate) use reference::reference;
pub(crate) use secret::Secret;

use problem::{Problem, Problems};
use schema::{Reader, Setting, Sources, section};
use tree::{Node, Source, Value};
use values::NotYet;

section! {
    /// Everything that can be configured.
    Config {
        /// What clients reach.
        public: listeners::Public = "",
        /// API, metrics, health. Keep it out of reach of clients.
        internal: listeners::Internal = "",
        /// Pings, and how long silence may last.
        heartbeat: session::Heartbeat = "",
        /// The one queue between channels and a socket.
        outbox: session::Outbox = "",
        /// What clients and publishers may ask for.
        limits: session::Limits = "",
        /// Who may come in, and for how long.
        auth: auth::Auth = "",
        /// The team's own backend.
        hooks: NotYet = "",
        /// Logging, to standard error: for people on a terminal, else as JSON lines.
        log: node::Log = "",
        /// How the node leaves after SIGTERM or `tidegate drain`.
        drain: node::Drain = "",
        /// Where messages are kept.
        broker: node::Broker = "",
        /// What channels are. The first rule whose `match` fits a name decides; a channel that no rule fits does not exist.
        channel: Vec<channel::Channel> = "",
    }
}

/// A configuration that can be used, and what is risky in it.
#[derive(Clone, Debug)]
pub(crate) struct Loaded {
    pub(crate) config: Config,
    pub(crate) risks: Vec<Problem>,
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadError {
    /// The file can't be read.
    #[error(
        "the configuration {} can't be read: {error}\n  --config FILE names another one; `tidegate dev` needs none; `tidegate check --config FILE` tries one out",
        path.display()
    )]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// What it says can't be used.
    #[error(transparent)]
    Refused(#[from] Refused),
}

/// Reads a file and the environment.
///
/// # Errors
/// The file can't be read, or something in it can't be used; then everything that can't is told.
pub(crate) fn load(path: &Path, environment: &Environment) -> Result<Loaded, LoadError> {
    let text = fs::read_to_string(path).map_err(|error| LoadError::Unreadable { path: path.to_owned(), error })?;
    Ok(read(&text, environment)?)
}

/// The same from a text.
///
/// # Errors
/// Something in it can't be used.
pub(crate) fn read(text: &str, environment: &Environment) -> Result<Loaded, Refused> {
    let mut problems = Problems::default();
    let mut root = tree::parse(text).unwrap_or_else(|error| {
        problems.refuse("not TOML", Source::Line(error.line), error.problem);
        Node { value: Value::Table(BTreeMap::new()), source: Source::Default }
    });
    environment.overlay(&mut root, &mut problems);
    let mut sources = Sources::default();
    let config = Config::read(&root, "", &mut Reader { environment, problems: &mut problems, sources: &mut sources });
    if let Some(config) = &config {
        refusals::judge(config, &sources, &mut problems);
        risks::judge(config, &sources, &mut problems);
    }
    match config {
        Some(config) if problems.refused.is_empty() => Ok(Loaded { config, risks: problems.risky }),
        _ => Err(Refused(problems.refused)),
    }
}
