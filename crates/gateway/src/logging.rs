//! Logs: to standard error, for people on a terminal and as JSON lines for machines, with a filter that can be changed.

use std::io::{self, IsTerminal};

use tracing_subscriber::filter::{EnvFilter, ParseError};
use tracing_subscriber::fmt;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry};

/// The variable that overrides `log.level`.
pub(crate) const VARIABLE: &str = "TIDEGATE_LOG";

/// Changes the filter of a running process.
#[derive(Clone)]
pub(crate) struct LogFilter(reload::Handle<EnvFilter, Registry>);

/// Starts logging.
pub(crate) fn start(level: &str) -> LogFilter {
    let (filter, handle) = reload::Layer::new(parse_filter(level).unwrap_or_else(|_| EnvFilter::new("info")));
    let output = if io::stderr().is_terminal() {
        fmt::layer().with_writer(io::stderr).with_target(false).boxed()
    } else {
        fmt::layer().json().flatten_event(true).with_writer(io::stderr).boxed()
    };
    tracing_subscriber::registry().with(filter).with(output).init();
    LogFilter(handle)
}

/// Checks a level or a filter. What is neither would silently filter everything, so a bare word has to be a level.
pub(crate) fn parse_filter(level: &str) -> Result<EnvFilter, ParseError> {
    let is_word = !level.contains(['=', ',', '[']);
    if is_word && level.parse::<tracing_subscriber::filter::LevelFilter>().is_err() {
        return EnvFilter::builder().parse(format!("tidegate={level}"));
    }
    EnvFilter::builder().parse(level)
}

impl LogFilter {
    /// Changes it; a filter that can't be parsed changes nothing.
    pub(crate) fn set(&self, level: &str) {
        if let Ok(filter) = parse_filter(level) {
            // The subscriber lives as long as the process.
            drop(self.0.reload(filter));
        }
    }
}
