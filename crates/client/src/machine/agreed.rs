//! What the last `welcome` agreed on, as far as a client keeps to it.

use tidegate_core::ReconnectSettings;
use tidegate_core::message::Welcome;

#[derive(Clone, Debug)]
pub(super) struct Agreed {
    /// Silence that means something.
    pub(super) dead_ms: u64,
    pub(super) message_bytes: usize,
    pub(super) in_flight: usize,
    pub(super) reconnect: ReconnectSettings,
}

impl From<&Welcome> for Agreed {
    fn from(welcome: &Welcome) -> Self {
        Self {
            dead_ms: u64::try_from(welcome.dead.as_millis()).unwrap_or(u64::MAX),
            message_bytes: welcome.message_bytes,
            // A server that allows none under way would never be asked anything.
            in_flight: welcome.in_flight.max(1),
            reconnect: welcome.reconnect,
        }
    }
}

impl Default for Agreed {
    /// Until a `welcome` says otherwise: the server's own defaults.
    fn default() -> Self {
        Self { dead_ms: 62_500, message_bytes: 64 * 1024, in_flight: 32, reconnect: ReconnectSettings::default() }
    }
}
