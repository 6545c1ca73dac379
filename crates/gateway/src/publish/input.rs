//! Lines as they come: from standard input on a thread of its own, or one from the command line.

use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, Read};

use tokio::sync::mpsc;

/// Pieces that are read ahead of what is published.
const AHEAD: usize = 2;
/// Bytes read at once. The lines that end in them go on together.
const PIECE: usize = 64 * 1024;
/// The longest line: as long as a message can be configured to be.
const LONGEST: u64 = 64 << 20;

/// Lines that came together.
type Piece = io::Result<VecDeque<Vec<u8>>>;

/// Where lines come from. Standard input is read only as fast as lines are taken.
#[derive(Debug)]
pub(super) struct Input {
    pieces: mpsc::Receiver<Piece>,
    /// Of the piece that is taken.
    lines: VecDeque<Vec<u8>>,
    ended: bool,
}

impl Input {
    /// One message, or standard input.
    pub(super) fn of(data: Option<String>) -> Self {
        let (sender, pieces) = mpsc::channel(AHEAD);
        match data {
            Some(data) => drop(sender.try_send(Ok(VecDeque::from([data.into_bytes()])))),
            None => drop(std::thread::spawn(move || read(&mut BufReader::with_capacity(PIECE, io::stdin().lock()), &sender))),
        }
        Self { pieces, lines: VecDeque::new(), ended: false }
    }

    /// The next line, without its end; `None` at the end of the input.
    pub(super) async fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        if self.lines.is_empty() {
            let piece = self.pieces.recv().await.transpose()?;
            self.ended = piece.is_none();
            self.lines = piece.unwrap_or_default();
        }
        Ok(self.lines.pop_front())
    }

    /// A line that is there already.
    pub(super) fn ready(&mut self) -> io::Result<Option<Vec<u8>>> {
        if self.lines.is_empty() {
            self.lines = self.pieces.try_recv().ok().transpose()?.unwrap_or_default();
        }
        Ok(self.lines.pop_front())
    }

    pub(super) const fn has_ended(&self) -> bool {
        self.ended
    }
}

/// Sends on what comes until it ends or nobody wants it: a line at once when no other is there.
fn read(input: &mut BufReader<impl Read>, pieces: &mpsc::Sender<Piece>) {
    loop {
        let mut lines = VecDeque::new();
        let last = loop {
            match read_line(input) {
                Ok(Some(line)) => lines.push_back(line),
                Ok(None) => break true,
                Err(error) => {
                    // What came before it is still good.
                    let _ = pieces.blocking_send(Ok(lines)).and_then(|()| pieces.blocking_send(Err(error)));
                    return;
                }
            }
            if !input.buffer().contains(&b'\n') {
                break false;
            }
        };
        if !lines.is_empty() && pieces.blocking_send(Ok(lines)).is_err() || last {
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

    #[test]
    fn lines_that_come_together_go_on_together() {
        let (sender, mut pieces) = mpsc::channel(8);
        read(&mut BufReader::with_capacity(8, &b"a\nb\nc\na long line\nd"[..]), &sender);
        drop(sender);
        let mut found = Vec::new();
        while let Some(piece) = pieces.blocking_recv() {
            found.push(piece.unwrap().into_iter().map(|line| String::from_utf8(line).unwrap()).collect::<Vec<_>>().join("|"));
        }
        assert_eq!(found.join("|"), "a|b|c|a long line|d");
        assert_eq!(found[0], "a|b|c");
    }
}
