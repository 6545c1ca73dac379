//! How the process ends: its status, and what it says about a failure.

use std::io::{self, Write};
use std::process::ExitCode;

/// The exit status. Bad usage is 2, which the command line's parser says itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// 0: done.
    Done,
    /// 1: failed.
    Failed,
    /// 3: drained at the deadline, with connections cut.
    Cut,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Cut => 3,
        })
    }
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// There is no usable configuration.
    #[error(transparent)]
    Configuration(#[from] crate::config::LoadError),
    /// The gateway can't start.
    #[error(transparent)]
    Start(#[from] crate::serve::StartError),
    /// Something of the operating system does not work.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The gateway could not be asked, or said no.
    #[error("{0}")]
    Gateway(String),
}

impl Failure {
    /// Says it on standard error.
    pub(crate) fn tell(&self) {
        // Whoever closed standard error does not want to know.
        drop(writeln!(io::stderr(), "tidegate: {self}"));
    }
}

/// Writes to standard output. A reader that has gone (`| head`) is no failure.
pub(crate) fn say(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}
