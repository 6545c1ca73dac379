//! Where a channel's history stands: an epoch and an offset in it.

use std::fmt;
use std::str::FromStr;

/// One life of a channel's log. Losing the log starts a new epoch, and offsets of older epochs mean nothing in it.
///
/// Shown to clients as up to 13 characters of Crockford base 32; they only ever compare it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Epoch(u64);

const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

impl Epoch {
    /// What an unreadable epoch of a client is taken for: never issued, so it never matches.
    pub const UNKNOWN: Self = Self(0);

    /// An epoch from a random number that the caller drew. Zero stands for [`Epoch::UNKNOWN`] and becomes one.
    pub const fn new(random: u64) -> Self {
        Self(if random == 0 { 1 } else { random })
    }

    /// The number behind it, for storage.
    pub const fn as_u64(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut digits = [0u8; 13];
        let mut rest = self.0;
        let mut at = digits.len();
        loop {
            at -= 1;
            digits[at] = ALPHABET[(rest & 31) as usize];
            rest >>= 5;
            if rest == 0 {
                break;
            }
        }
        out.write_str(std::str::from_utf8(&digits[at..]).map_err(|_| fmt::Error)?)
    }
}

impl FromStr for Epoch {
    type Err = std::convert::Infallible;

    /// Reads what [`Epoch`] displays; anything else is [`Epoch::UNKNOWN`], since a client's epoch is only ever compared.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(decode(text).map_or(Self::UNKNOWN, Self))
    }
}

fn decode(text: &str) -> Option<u64> {
    if text.is_empty() || text.len() > 13 || (text.len() > 1 && text.starts_with('0')) {
        return None;
    }
    text.bytes().try_fold(0u64, |number, byte| {
        let digit = ALPHABET.iter().position(|&letter| letter == byte)? as u64;
        number.checked_mul(32)?.checked_add(digit)
    })
}

/// A place in a channel's history: after the message with this offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Position {
    /// The log's life that the offset belongs to.
    pub epoch: Epoch,
    /// Strictly increasing within the epoch, not necessarily dense; 0 is before the first message.
    pub offset: u64,
}

impl Position {
    /// The place before the first message of an epoch.
    pub const fn start(epoch: Epoch) -> Self {
        Self { epoch, offset: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epochs_survive_text() {
        for number in [1, 31, 32, 12345, u64::MAX, 1 << 63] {
            assert_eq!(Epoch::new(number).to_string().parse(), Ok(Epoch::new(number)));
        }
    }

    #[test]
    fn foreign_epochs_never_match() {
        for text in ["", "Xk3", "zzzzzzzzzzzzzz", "zzzzzzzzzzzzz", "01", "ü", "-1"] {
            assert_eq!(text.parse(), Ok(Epoch::UNKNOWN), "{text}");
        }
    }
}
