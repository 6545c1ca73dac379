//! Lines as they come: from standard input on a thread of its own, or one from the command line.

use std::io::{self, BufRead, Read};

use tokio::sync::mpsc;

/// Lines that are read ahead of what is published.
const AHEAD: usize = 64;
/// The longest line: as long as a message can be configured to be.
const LONGEST: u64 = 64 << 20;

/// Where lines come from. Standard input is read only as fast as lines are taken.
#[derive(Debug)]
pub(super) struct Input {
    lines: mpsc::Receiver<io::Result<Vec<u8>>>,
    ended: bool,
}

impl Input {
    /// One message, or standard input.
    pub(super) fn of(data: Option<String>) -> Self {
        let (sender, lines) = mpsc::channel(AHEAD);
        match data {
            Some(data) => drop(sender.try_send(Ok(data.into_bytes()))),
            None => drop(std::thread::spawn(move || read(&sender))),
        }
        Self { lines, ended: false }
    }

    /// The next line, without its end; `None` at the end of the input.
    pub(super) async fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        let line = self.lines.recv().await.transpose()?;
        self.ended = line.is_none();
        Ok(line)
    }

    /// A line that is there already.
    pub(super) fn ready(&mut self) -> io::Result<Option<Vec<u8>>> {
        self.lines.try_recv().ok().transpose()
    }

    pub(super) const fn has_ended(&self) -> bool {
        self.ended
    }
}

fn read(lines: &mpsc::Sender<io::Result<Vec<u8>>>) {
    let mut input = io::stdin().lock();
    loop {
        let line = read_line(&mut input);
        let last = !matches!(line, Ok(Some(_)));
        if let Some(line) = line.transpose()
            && lines.blocking_send(line).is_err()
        {
            return;
        }
        if last {
            return;
        }
    }
}

/// A line without its end; the last may have none.
fn read_line(input: &mut impl BufRead) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    if input.take(LONGEST).read_until(b'\n', &mut line)? == 0 {
        return Ok(None);
    }
    if line.ends_with(b"\n") {
        line.pop();
        if line.ends_with(b"\r") {
            line.pop();
        }
    } else if line.len() as u64 == LONGEST {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a line of standard input is longer than 64 MiB"));
    }
    Ok(Some(line))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_line_is_lost_or_changed() {
        let mut input = &b"one\n\n  two \r\nlast without an end"[..];
        let mut lines = Vec::new();
        while let Some(line) = read_line(&mut input).unwrap() {
            lines.push(String::from_utf8(line).unwrap());
        }
        assert_eq!(lines, ["one", "", "  two ", "last without an end"]);
        assert_eq!(read_line(&mut &b"\n"[..]).unwrap(), Some(Vec::new()));
    }
}
