//! A connection's id: random, short, and ordered so that lists of connections can be paged.

use std::fmt;
use std::str::FromStr;

use crate::Epoch;

/// 64 random bits, shown as up to 13 characters of Crockford base 32. Guessing one gives no authority.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(u64);

/// Why a text is not a connection's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a connection's id")]
pub struct InvalidConnectionId;

impl ConnectionId {
    /// The id that a random number makes, which the caller drew.
    pub const fn new(random: u64) -> Self {
        Self(Epoch::new(random).as_u64())
    }

    /// The number behind it.
    pub const fn as_u64(self) -> u64 {
        self.0
    }
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        Epoch::new(self.0).fmt(out)
    }
}

impl FromStr for ConnectionId {
    type Err = InvalidConnectionId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.parse::<Epoch>() {
            Ok(epoch) if epoch != Epoch::UNKNOWN => Ok(Self(epoch.as_u64())),
            _ => Err(InvalidConnectionId),
        }
    }
}
