//! Who is connected: found by id, listed in pages.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use tidegate_core::{ConnectionId, Moment};
use tokio::sync::Notify;

use crate::connection::Port;

/// Shards, by the ids' highest bits: the order of ids is the order of shards.
const SHARDS: usize = 64;

/// At most so many connections in a page (`GET /v1/connections`).
pub(crate) const MAX_PAGE: usize = 1000;

type Shard = Mutex<BTreeMap<ConnectionId, Arc<Port>>>;

/// The open connections.
#[derive(Debug)]
pub(crate) struct Connections {
    shards: Box<[Shard]>,
    count: AtomicUsize,
    emptied: Notify,
}

/// A connection, as an operator sees it. Times are from the moment of asking.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct ConnectionInfo {
    /// Its id.
    pub id: String,
    /// The user; `None` if anonymous or not authenticated yet.
    pub user: Option<Arc<str>>,
    /// The login it belongs to.
    pub session: Option<Arc<str>>,
    /// The node it is on.
    pub node: Box<str>,
    /// The client's address, past trusted proxies.
    pub address: IpAddr,
    /// Since its 101.
    pub age_ms: u64,
    /// Since the socket last took bytes.
    pub last_sent_ago_ms: u64,
    /// Since bytes last came in.
    pub last_received_ago_ms: u64,
    /// Bytes that wait in its outbox.
    pub outbox_bytes: usize,
    /// Subscriptions that read from history because they fell behind.
    pub lanes_behind: usize,
}

/// Which connections to list.
#[derive(Clone, Debug, Default)]
pub struct ConnectionFilter {
    /// Only this user's.
    pub user: Option<Box<str>>,
    /// Only subscribers of this channel.
    pub channel: Option<tidegate_core::ChannelName>,
    /// Only those after this one, the last of the page before.
    pub after: Option<ConnectionId>,
    /// At most so many, itself at most 1,000.
    pub limit: usize,
}

/// A page of connections in the order of their ids.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct ConnectionPage {
    /// The connections.
    pub connections: Vec<ConnectionInfo>,
    /// Where the next page goes on (`after`); `None` at the end.
    pub next: Option<String>,
}

impl Connections {
    pub(crate) fn new() -> Self {
        Self { shards: (0..SHARDS).map(|_| Mutex::default()).collect(), count: AtomicUsize::new(0), emptied: Notify::new() }
    }

    pub(crate) fn insert(&self, port: Arc<Port>) {
        self.count.fetch_add(1, Ordering::AcqRel);
        self.shard(port.id()).lock().insert(port.id(), port);
    }

    pub(crate) fn remove(&self, id: ConnectionId) {
        if self.shard(id).lock().remove(&id).is_some() && self.count.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.emptied.notify_waiters();
        }
    }

    pub(crate) fn get(&self, id: ConnectionId) -> Option<Arc<Port>> {
        self.shard(id).lock().get(&id).cloned()
    }

    pub(crate) fn count(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    /// Waits until nobody is connected.
    pub(crate) async fn emptied(&self) {
        loop {
            let emptied = self.emptied.notified();
            if self.count() == 0 {
                return;
            }
            emptied.await;
        }
    }

    /// All of them right now.
    pub(crate) fn all(&self) -> Vec<Arc<Port>> {
        self.shards.iter().flat_map(|shard| shard.lock().values().cloned().collect::<Vec<_>>()).collect()
    }

    /// Those after an id that pass, in order, one more than `limit` at most.
    pub(crate) fn after(&self, after: Option<ConnectionId>, limit: usize, passes: impl Fn(&Port) -> bool) -> Vec<Arc<Port>> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let first = after.map_or(0, shard_of);
        let mut found = Vec::new();
        for shard in &self.shards[first..] {
            let ports = shard.lock().range((from, Bound::Unbounded)).map(|(_, port)| Arc::clone(port)).collect::<Vec<_>>();
            found.extend(ports.into_iter().filter(|port| passes(port)).take(limit + 1 - found.len()));
            if found.len() > limit {
                break;
            }
        }
        found
    }

    fn shard(&self, id: ConnectionId) -> &Shard {
        &self.shards[shard_of(id)]
    }
}

impl ConnectionPage {
    pub(crate) fn of(mut ports: Vec<Arc<Port>>, limit: usize, node: &str, now: Moment) -> Self {
        let more = ports.len() > limit;
        ports.truncate(limit);
        let next = if more { ports.last().map(|port| port.id().to_string()) } else { None };
        Self { connections: ports.iter().map(|port| ConnectionInfo::of(port, node, now)).collect(), next }
    }
}

impl ConnectionInfo {
    fn of(port: &Port, node: &str, now: Moment) -> Self {
        let look = port.look(now);
        let ms = |span: std::time::Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        Self {
            id: port.id().to_string(),
            user: look.identity.as_ref().and_then(|identity| identity.user.clone()),
            session: look.identity.as_ref().and_then(|identity| identity.session.clone()),
            node: node.into(),
            address: port.facts().address,
            age_ms: ms(look.age),
            last_sent_ago_ms: ms(look.last_sent_ago),
            last_received_ago_ms: ms(look.last_received_ago),
            outbox_bytes: look.outbox_bytes,
            lanes_behind: look.lanes_behind,
        }
    }
}

const fn shard_of(id: ConnectionId) -> usize {
    (id.as_u64() >> (64 - SHARDS.ilog2())) as usize
}
