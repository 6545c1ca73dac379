//! Inflating within a limit: the window is allocated when the first compressed message comes, and never more is written than may be.

use flate2::{Decompress, FlushDecompress, Status};

use super::{Deflate, TAIL};
use crate::{Role, Violation, growth};

/// Output is made in steps of this size, so that a bomb is noticed after one of them.
const STEP_BYTES: usize = 8 * 1024;

/// No bytes, compressed with the fixed codes and marked as the last (RFC 1951, 3.2.6).
const EMPTY_LAST_BLOCK: [u8; 2] = [3, 0];

/// Blocks of a message that may be marked as the last and be followed by another: so many, and one more for each KiB that the
/// message has. Each costs a copy of the window, which two bytes would else be enough to ask for.
const LAST_BLOCKS: usize = 16;

/// The inflating side of a connection.
#[derive(Debug)]
pub(crate) struct Inflater {
    state: Option<Box<State>>,
    keep_window: bool,
    bits: u8,
}

#[derive(Debug)]
struct State {
    inflate: Decompress,
    window_bytes: usize,
    /// The end of the messages before this one, at most a window; nothing without context takeover.
    history: Vec<u8>,
    /// A block marked as the last has ended. The next begins with a byte of its own (RFC 7692, 7.2.1).
    ended: bool,
    /// How many have in this message, with another behind them.
    last_blocks: usize,
}

impl Inflater {
    pub(crate) const fn new() -> Self {
        Self { state: None, keep_window: false, bits: 15 }
    }

    pub(crate) fn configure(&mut self, deflate: Deflate, role: Role) {
        let (no_takeover, bits) = match role {
            Role::Server => (deflate.client_no_context_takeover, deflate.client_max_window_bits),
            Role::Client => (deflate.server_no_context_takeover, deflate.server_max_window_bits),
        };
        self.keep_window = !no_takeover;
        // A larger window reads what was made for a smaller one; some inflaters refuse 8.
        self.bits = bits.max(9);
    }

    /// Appends what `input` inflates to.
    pub(crate) fn inflate(&mut self, input: &[u8], output: &mut Vec<u8>, limit: usize) -> Result<(), Violation> {
        let bits = self.bits;
        self.state.get_or_insert_with(|| Box::new(State::new(bits))).inflate(input, output, limit)
    }

    /// The message is complete, and this is all of it: judges its end, and forgets what need not be kept.
    pub(crate) fn finish(&mut self, output: &mut Vec<u8>, limit: usize) -> Result<(), Violation> {
        let Some(mut state) = self.state.take() else { return Err(Violation::Deflate) };
        state.finish(output, limit)?;
        if self.keep_window {
            state.remember(output)?;
            self.state = Some(state);
        }
        Ok(())
    }
}

impl State {
    fn new(bits: u8) -> Self {
        let inflate = Decompress::new_with_window_bits(false, bits);
        Self { inflate, window_bytes: 1 << bits, history: Vec::new(), ended: false, last_blocks: 0 }
    }

    fn inflate(&mut self, mut input: &[u8], output: &mut Vec<u8>, limit: usize) -> Result<(), Violation> {
        let mut step = [0; STEP_BYTES];
        loop {
            if self.ended {
                if input.is_empty() {
                    return Ok(());
                }
                self.begin_behind_last_block(output)?;
            }
            // One byte more than allowed is enough to know.
            let room = limit.saturating_add(1).saturating_sub(output.len()).min(STEP_BYTES);
            let (read, written) = (self.inflate.total_in(), self.inflate.total_out());
            let status = self.inflate.decompress(input, &mut step[..room], FlushDecompress::Sync).map_err(|_| Violation::Deflate)?;
            let used = usize::try_from(self.inflate.total_in() - read).unwrap_or(0);
            let made = usize::try_from(self.inflate.total_out() - written).unwrap_or(0);
            if output.len() + made > limit {
                return Err(Violation::TooBig);
            }
            growth::reserve(output, made, limit);
            output.extend_from_slice(&step[..made]);
            input = &input[used..];
            match status {
                Status::StreamEnd => self.ended = true,
                Status::Ok | Status::BufError if used == 0 && made == 0 => {
                    return if input.is_empty() { Ok(()) } else { Err(Violation::Deflate) };
                }
                Status::Ok | Status::BufError => {}
            }
        }
    }

    /// A message ends with an empty stored block, of which the sender cut off all but the first bits (7.2.1): they are put back.
    /// If they add a byte, or don't end a block, the message broke off in one. Some senders leave that block out
    /// behind one marked as the last; nothing can be missing there either.
    fn finish(&mut self, output: &mut Vec<u8>, limit: usize) -> Result<(), Violation> {
        if self.ended {
            return Ok(());
        }
        let inflated = output.len();
        self.inflate(&TAIL, output, limit)?;
        if !self.ended {
            // Only between two blocks does this end the data: within stored bytes it is two more, and in a Huffman code it is no end.
            self.inflate(&EMPTY_LAST_BLOCK, output, limit)?;
        }
        if self.ended && output.len() == inflated { Ok(()) } else { Err(Violation::Deflate) }
    }

    /// Another block behind one marked as the last: the inflater takes it for new data, which goes on with the same window.
    fn begin_behind_last_block(&mut self, output: &[u8]) -> Result<(), Violation> {
        self.last_blocks += 1;
        if self.last_blocks > LAST_BLOCKS + output.len() / 1024 {
            return Err(Violation::Deflate);
        }
        self.begin(&self.window(output))
    }

    /// Keeps a message's end for the next one. The inflater itself has read the end of its data and begins anew.
    fn remember(&mut self, output: &[u8]) -> Result<(), Violation> {
        let window = self.window(output);
        self.begin(&window)?;
        self.history = window;
        self.last_blocks = 0;
        Ok(())
    }

    fn begin(&mut self, window: &[u8]) -> Result<(), Violation> {
        self.ended = false;
        self.inflate.reset(false);
        if !window.is_empty() {
            self.inflate.set_dictionary(window).map_err(|_| Violation::Deflate)?;
        }
        Ok(())
    }

    /// How far back a match may reach behind this output.
    fn window(&self, output: &[u8]) -> Vec<u8> {
        let output = &output[output.len().saturating_sub(self.window_bytes)..];
        let history = self.history.len().min(self.window_bytes - output.len());
        [&self.history[self.history.len() - history..], output].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Compressor;

    fn inflater(takeover: bool) -> Inflater {
        Inflater { keep_window: takeover, ..Inflater::new() }
    }

    /// What is set aside counts, not only what is used.
    #[test]
    fn no_more_is_set_aside_than_the_limit() {
        for limit in [1000, 70_000, 100_000] {
            for size in [limit, limit + 1, 10 * limit] {
                let small = Compressor::new(15).compress(&vec![b'x'; size]).unwrap();
                let mut output = Vec::new();
                let whole = inflater(false).inflate(&small, &mut output, limit);
                assert_eq!(whole, if size > limit { Err(Violation::TooBig) } else { Ok(()) });
                assert!(output.capacity() <= limit, "{} for {limit}", output.capacity());
            }
        }
    }

    #[test]
    fn without_takeover_nothing_is_kept() {
        let small = Compressor::new(15).compress(&[b'x'; 300]).unwrap();
        for takeover in [false, true] {
            let (mut inflater, mut output) = (inflater(takeover), Vec::new());
            inflater.inflate(&small, &mut output, 1000).unwrap();
            inflater.finish(&mut output, 1000).unwrap();
            assert_eq!(inflater.state.is_some(), takeover);
        }
    }
}
