//! Inflating within a limit: the window is allocated when the first compressed message comes, and never more is written than may be.

use flate2::{Decompress, FlushDecompress, Status};

use super::{Deflate, TAIL};
use crate::{Role, Violation};

/// Output is made in steps of this size, so that a bomb is noticed after one of them.
const STEP_BYTES: usize = 8 * 1024;

/// No bytes, compressed with the fixed codes and marked as the last (RFC 1951, 3.2.6).
const EMPTY_LAST_BLOCK: [u8; 2] = [3, 0];

/// The inflating side of a connection.
#[derive(Debug)]
pub(crate) struct Inflater {
    window: Option<Box<Decompress>>,
    keep_window: bool,
    bits: u8,
    /// The message's last block has come; what follows can only be the tail.
    ended: bool,
}

impl Inflater {
    pub(crate) const fn new() -> Self {
        Self { window: None, keep_window: false, bits: 15, ended: false }
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
    pub(crate) fn inflate(&mut self, mut input: &[u8], output: &mut Vec<u8>, limit: usize) -> Result<(), Violation> {
        let bits = self.bits;
        let window = self.window.get_or_insert_with(|| Box::new(Decompress::new_with_window_bits(false, bits)));
        let mut step = [0; STEP_BYTES];
        loop {
            if self.ended {
                // A block marked as the last may be followed by the empty one (7.2.3.4, 7.2.3.5).
                return if input.iter().all(|&byte| byte == 0 || byte == 0xff) { Ok(()) } else { Err(Violation::Deflate) };
            }
            // One byte more than allowed is enough to know.
            let room = limit.saturating_add(1).saturating_sub(output.len()).min(STEP_BYTES);
            let (read, written) = (window.total_in(), window.total_out());
            let status = window.decompress(input, &mut step[..room], FlushDecompress::Sync).map_err(|_| Violation::Deflate)?;
            let used = usize::try_from(window.total_in() - read).unwrap_or(0);
            let made = usize::try_from(window.total_out() - written).unwrap_or(0);
            output.extend_from_slice(&step[..made]);
            input = &input[used..];
            if output.len() > limit {
                return Err(Violation::TooBig);
            }
            match status {
                Status::StreamEnd => self.ended = true,
                Status::Ok | Status::BufError if used == 0 && made == 0 => {
                    return if input.is_empty() { Ok(()) } else { Err(Violation::Deflate) };
                }
                Status::Ok | Status::BufError => {}
            }
        }
    }

    /// The message is complete: adds the tail that the sender cut off, and forgets what need not be kept.
    pub(crate) fn finish(&mut self, output: &mut Vec<u8>, limit: usize) -> Result<(), Violation> {
        self.inflate(&TAIL, output, limit)?;
        if !self.keep_window {
            if !self.ended {
                // Between two blocks this ends the data; within a block that broke off it does not.
                let inflated = output.len();
                self.inflate(&EMPTY_LAST_BLOCK, output, limit)?;
                self.ended &= output.len() == inflated;
            }
            self.window = None;
            if !std::mem::take(&mut self.ended) {
                return Err(Violation::Deflate);
            }
        } else if self.ended
            && let Some(window) = &mut self.window
        {
            window.reset(false);
        }
        self.ended = false;
        Ok(())
    }
}
