//! What the embedded broker can be set to, with the reasons for the defaults, and why it can fail to open.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tidegate_core::broker::Durability;

/// Settings of [`super::Embedded`].
#[derive(Clone, Debug)]
pub struct EmbeddedSettings {
    /// The directory of the log; made if it is missing. `None` keeps everything in memory.
    pub path: Option<PathBuf>,
    /// [`Durability::Fsync`] needs a `path`, [`Durability::Memory`] ignores it. There is no bus here.
    pub durability: Durability,
    /// What all channels together may take in bytes. Half of it caches recent messages (or is all there is of them, without a log on
    /// disk; with one, an eighth of that half is for what was read back lately), a quarter indexes (on disk: 2 bytes a message, so
    /// 64 MiB index 8 million; keys of `state` channels), an eighth remembers message ids, an eighth is for publishes on their way to
    /// the disk.
    pub memory_bytes: usize,
    /// How long message ids are remembered. Longer than any publisher retries (`tidegate publish` gives up after 60 s).
    pub dedup_window: Duration,
    /// So many message ids are remembered per channel at most: about 0.7 MB on a channel with the busiest publishers.
    pub dedup_messages: usize,
    /// Channels with anything to remember. An empty one costs about 600 bytes, so the default's worst case is 60 MB, as much again as
    /// `memory_bytes`; a publish on one more is refused.
    pub channels: usize,
    /// A channel with nothing left in it keeps its epoch and offset for so long after its last message.
    pub forget_after: Duration,
    /// Size at which a file of the log is closed and the next begun. Space comes back file by file.
    pub segment_bytes: u32,
    /// What the broker takes for the time. Tests turn it.
    pub clock: Clock,
}

impl Default for EmbeddedSettings {
    fn default() -> Self {
        Self {
            path: None,
            durability: Durability::Memory,
            memory_bytes: 64 * 1024 * 1024,
            dedup_window: Duration::from_secs(5 * 60),
            dedup_messages: 10_000,
            channels: 100_000,
            forget_after: Duration::from_secs(24 * 60 * 60),
            segment_bytes: 32 * 1024 * 1024,
            clock: Clock::system(),
        }
    }
}

impl EmbeddedSettings {
    /// The defaults with a log in this directory, synced before every acknowledgement.
    pub fn fsync(path: impl Into<PathBuf>) -> Self {
        Self { path: Some(path.into()), durability: Durability::Fsync, ..Self::default() }
    }
}

/// Milliseconds since 1970. Ages are counted by it, since they outlive the process.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> u64 + Send + Sync>);

impl Clock {
    /// The system's.
    pub fn system() -> Self {
        Self::new(|| {
            let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
        })
    }

    /// Any other.
    pub fn new(now_ms: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        Self(Arc::new(now_ms))
    }

    pub(super) fn now_ms(&self) -> u64 {
        (self.0)()
    }
}

impl std::fmt::Debug for Clock {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Clock({})", self.now_ms())
    }
}

/// Why the embedded broker can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Durability `fsync` without a directory.
    #[error("durability fsync needs a path")]
    NoPath,
    /// Durability `bus`: there is no bus.
    #[error("the embedded broker has no bus: durability is memory or fsync")]
    NoBus,
    /// Another process has it open; a log has one writer.
    #[error("{} is in use by another process (its file `lock` is held)", path.display())]
    Locked {
        /// The directory.
        path: PathBuf,
    },
    /// The log has a damaged place before its end. What was acknowledged is missing, so it isn't opened as if nothing had happened.
    #[error(
        "{} is damaged at byte {at}: {problem}. Restore the directory from a copy, or move it away to begin with an empty log",
        file.display()
    )]
    Damaged {
        /// The file of the log.
        file: PathBuf,
        /// Where in it.
        at: u64,
        /// What was found there.
        problem: &'static str,
    },
    /// The operating system says no.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What it says.
        #[source]
        error: io::Error,
    },
}

impl OpenError {
    pub(super) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self + '_ {
        move |error| Self::Io { path: path.to_owned(), error }
    }
}
