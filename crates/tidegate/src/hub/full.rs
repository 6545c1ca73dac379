//! Subscribers of `pause` channels whose outboxes were full when last delivered to: their channels' publishers wait for them.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tidegate_core::{ChannelName, ConnectionId};

use crate::connection::Port;

/// By channel. Who has room again is taken out when asked for, who unsubscribes at once.
#[derive(Debug, Default)]
pub(super) struct Full {
    channels: Mutex<HashMap<ChannelName, HashMap<ConnectionId, Arc<Port>>>>,
}

impl Full {
    pub(super) fn note(&self, channel: &ChannelName, found: impl IntoIterator<Item = Arc<Port>>) {
        let mut channels = self.channels.lock();
        channels.entry(channel.clone()).or_default().extend(found.into_iter().map(|port| (port.id(), port)));
    }

    /// One that is still full.
    pub(super) fn any(&self, channel: &ChannelName) -> Option<Arc<Port>> {
        let mut channels = self.channels.lock();
        let ports = channels.get_mut(channel)?;
        while let Some((id, port)) = ports.iter().next().map(|(id, port)| (*id, port)) {
            if port.is_full() {
                return Some(Arc::clone(port));
            }
            ports.remove(&id);
        }
        channels.remove(channel);
        None
    }

    /// It has left the channel.
    pub(super) fn forget(&self, channel: &ChannelName, port: &Port) {
        let mut channels = self.channels.lock();
        let Some(ports) = channels.get_mut(channel) else { return };
        ports.remove(&port.id());
        if ports.is_empty() {
            channels.remove(channel);
        }
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.channels.lock().is_empty()
    }
}
