//! What a person at a terminal sees meanwhile; nothing where nobody looks, except that something is wrong.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use super::window::Window;

/// As often as an eye can follow.
const EVERY: Duration = Duration::from_millis(200);

#[derive(Debug)]
pub(super) struct Progress {
    shown: bool,
    last: Instant,
    began: Instant,
    troubled: bool,
}

impl Progress {
    pub(super) fn new() -> Self {
        let now = Instant::now();
        Self { shown: io::stderr().is_terminal(), last: now, began: now, troubled: false }
    }

    /// Messages were acknowledged.
    pub(super) fn moved(&mut self, window: &Window) {
        if std::mem::take(&mut self.troubled) {
            say("tidegate: the gateway is back");
        }
        if self.shown && self.last.elapsed() >= EVERY {
            self.last = Instant::now();
            show(&format!("{} published, {} under way", window.acknowledged(), window.waiting()));
        }
    }

    /// The gateway is not there. Said once, until it is back.
    pub(super) fn lost(&mut self, error: &str, window: &Window) {
        if !std::mem::replace(&mut self.troubled, true) {
            self.clear();
            say(&format!("tidegate: {error}; {} messages wait, trying again", window.waiting()));
        }
    }

    /// A message was refused for good.
    pub(super) fn refused(&self, line: u64, error: &str) {
        self.clear();
        say(&format!("tidegate: line {line}: {error}"));
    }

    pub(super) fn done(&self, window: &Window) {
        if self.shown {
            self.clear();
            say(&format!("{} published in {:.1} s", window.acknowledged(), self.began.elapsed().as_secs_f64()));
        }
    }

    fn clear(&self) {
        if self.shown {
            show("");
        }
    }
}

// Whoever closed standard error does not want to know.

fn show(text: &str) {
    drop(write!(io::stderr(), "\r\x1b[K{text}"));
}

fn say(text: &str) {
    drop(writeln!(io::stderr(), "{text}"));
}
