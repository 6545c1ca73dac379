//! Publishes that can't begin at once (too much is under way, on the node or on the channel, or the channel's publishers wait for
//! subscribers): a line for each connection, so that its messages reach the broker in the order in which they came.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use tidegate_core::message::{CommandId, Publish};
use tidegate_core::{ChannelRule, ConnectionId, Overflow};
use tokio::sync::OwnedSemaphorePermit;

use super::Hub;
use super::fanout::BACKLOG;
use super::outside::Task;

/// The lines there are. What stands in one is bounded by its session's commands in flight.
#[derive(Default)]
pub(crate) struct Lines {
    lines: Mutex<HashMap<ConnectionId, VecDeque<Wish>>>,
    /// How many: nobody takes the lock while there is none.
    count: AtomicUsize,
}

/// A publish that a session wants.
pub(super) struct Wish {
    pub(super) task: Task,
    pub(super) id: CommandId,
    pub(super) rule: Arc<ChannelRule>,
    pub(super) publish: Publish,
}

impl Hub {
    /// Begins the publish, or puts it in its connection's line. A connection's publishes come one after the other.
    pub(super) fn publish(self: &Arc<Self>, connection: ConnectionId, wish: Wish) {
        let Some(wish) = self.lines.join(connection, wish) else { return };
        if wish.rule.overflow != Overflow::Pause
            && !self.fanout.is_behind(&wish.publish.channel)
            && let Ok(permit) = Arc::clone(&self.commands).try_acquire_owned()
        {
            wish.begin(permit);
            return;
        }
        self.lines.form(connection, wish);
        tokio::spawn(Serving { hub: Arc::clone(self), connection, is_over: false }.run());
    }

    /// Comes when there is room on the channel, its fan-out is not too far behind, and with a permit. That is not held while the others are
    /// waited for: what everybody else wants must not wait for the subscribers of one channel.
    async fn turn(&self, wish: &Wish) -> Option<OwnedSemaphorePermit> {
        let (channel, pauses) = (&wish.publish.channel, wish.rule.overflow == Overflow::Pause);
        // Once: whoever publishes without end must not keep it waiting.
        self.fanout.catch_up(channel, BACKLOG).await;
        loop {
            if pauses {
                // Who is full is known when all before it has been handed out.
                self.fanout.catch_up(channel, 0).await;
                self.fanout.room_in(channel).await;
            }
            // Closed never: it lives as long as the hub.
            let permit = Arc::clone(&self.commands).acquire_owned().await.ok()?;
            if !pauses || self.fanout.has_room(channel) {
                return Some(permit);
            }
        }
    }
}

/// The task that serves a line.
struct Serving {
    hub: Arc<Hub>,
    connection: ConnectionId,
    /// The line was empty: one that is there now has a task of its own.
    is_over: bool,
}

impl Serving {
    /// Begins one after the other until the line is empty.
    async fn run(mut self) {
        while let Some(wish) = self.hub.lines.next(self.connection) {
            let Some(permit) = self.hub.turn(&wish).await else { return };
            wish.begin(permit);
        }
        self.is_over = true;
    }
}

impl Drop for Serving {
    /// With its runtime, or by a panic: nobody would begin what stands in the line, and it would hold the hub for ever.
    fn drop(&mut self) {
        if !self.is_over {
            // Dropped without the lock: a session is told.
            let left = self.hub.lines.dissolve(self.connection);
            drop(left);
        }
    }
}

impl Lines {
    /// Puts it at the end of the connection's line; gives it back if there is none.
    fn join(&self, connection: ConnectionId, wish: Wish) -> Option<Wish> {
        if self.count.load(Ordering::Acquire) == 0 {
            return Some(wish);
        }
        match self.lines.lock().get_mut(&connection) {
            Some(line) => {
                line.push_back(wish);
                None
            }
            None => Some(wish),
        }
    }

    fn form(&self, connection: ConnectionId, first: Wish) {
        let mut lines = self.lines.lock();
        lines.insert(connection, VecDeque::from([first]));
        self.count.store(lines.len(), Ordering::Release);
    }

    fn dissolve(&self, connection: ConnectionId) -> Option<VecDeque<Wish>> {
        let mut lines = self.lines.lock();
        let line = lines.remove(&connection);
        self.count.store(lines.len(), Ordering::Release);
        line
    }

    /// The first in the line. An empty line is dissolved: by then everything that stood in it has begun.
    fn next(&self, connection: ConnectionId) -> Option<Wish> {
        let mut lines = self.lines.lock();
        let first = lines.get_mut(&connection)?.pop_front();
        if first.is_none() {
            lines.remove(&connection);
            self.count.store(lines.len(), Ordering::Release);
        }
        first
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tidegate_core::broker::Sink;
    use tidegate_core::session::{Output, Transmit};
    use tidegate_core::{Body, ChannelKind, ChannelName, Moment, Pattern, Publication};
    use tokio::runtime::Builder;
    use tokio::task::yield_now;

    use super::*;
    use crate::connection::{Outside, Port};
    use crate::gate::Gate;
    use crate::instructions::Room;
    use crate::settings::Config;

    fn channel() -> (ChannelName, Arc<ChannelRule>, Room) {
        let channel = ChannelName::new("a").unwrap();
        let rule = Arc::new(ChannelRule::new(Pattern::new("**").unwrap(), ChannelKind::Event));
        let room = Room::new(&channel, &rule, 1).unwrap();
        (channel, rule, room)
    }

    fn data(text: &str) -> Body {
        Body::Data(Bytes::copy_from_slice(text.as_bytes()))
    }

    fn wish(hub: &Arc<Hub>, port: &Arc<Port>, channel: &ChannelName, rule: &Arc<ChannelRule>, id: u64) {
        let publish = Publish { channel: channel.clone(), message_id: None, key: None, body: data(&id.to_string()) };
        Arc::clone(hub).perform(port, Output::Publish { id, rule: Arc::clone(rule), publish });
    }

    /// The messages that a subscriber was given since the last look.
    fn given(port: &Port) -> Vec<Body> {
        let transmits = std::iter::from_fn(|| port.next_transmit(Moment::ZERO));
        transmits.filter_map(|transmit| if let Transmit::Publication(p) = transmit { Some(p.body.clone()) } else { None }).collect()
    }

    /// A gate with the channel's subscriber.
    async fn gate(channel: &ChannelName, rule: &Arc<ChannelRule>, room: &Room) -> Gate {
        let gate = Gate::builder(Config::default()).build().await.unwrap();
        let hub = gate.hub();
        hub.broker.subscribe(rule, channel).await.unwrap();
        hub.fanout.registry.join(channel, rule, room.fanout.registry.members(channel)[0].clone());
        gate
    }

    fn publish(hub: &Hub, channel: &ChannelName, messages: usize) {
        (0..messages).for_each(|_| hub.fanout.deliver(&Arc::new(Publication::new(channel.clone(), None, None, None, data("0")))));
    }

    #[test]
    fn who_publishes_without_end_keeps_nobody_in_line() {
        let (channel, rule, room) = channel();
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let gate = gate(&channel, &rule, &room).await;
            let hub = gate.hub();
            publish(hub, &channel, BACKLOG * 2);
            wish(hub, &room.ports[0], &channel, &rule, 1);
            assert_eq!(hub.lines.count.load(Ordering::Relaxed), 1, "a line has formed");
            for turn in 0.. {
                if given(&room.ports[0]).contains(&data("1")) {
                    break;
                }
                assert!(turn < 1000, "it waits for ever");
                // Always as far behind as a stream of lines keeps a channel.
                while !hub.fanout.registry.find(&channel).unwrap().is_behind(BACKLOG * 2) {
                    publish(hub, &channel, 64);
                }
                yield_now().await;
            }
        });
    }

    #[test]
    fn a_line_goes_with_the_runtime_of_who_serves_it() {
        let (channel, rule, room) = channel();
        let runtime = || Builder::new_current_thread().enable_all().build().unwrap();
        let (home, closing) = (runtime(), runtime());
        let gate = home.block_on(gate(&channel, &rule, &room));
        let hub = gate.hub();
        publish(hub, &channel, BACKLOG * 2);
        closing.block_on(async { (1..=3).for_each(|id| wish(hub, &room.ports[0], &channel, &rule, id)) });
        assert_eq!(hub.lines.count.load(Ordering::Relaxed), 1);
        drop(closing);
        assert_eq!(hub.lines.count.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn where_a_channel_is_far_behind_publishes_wait_in_line_and_without_a_permit() {
        let (channel, rule, room) = channel();
        let port = &room.ports[0];
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let gate = gate(&channel, &rule, &room).await;
            let hub = gate.hub();
            let permits = hub.commands.available_permits();
            publish(hub, &channel, BACKLOG + 1);
            (1..=3).for_each(|id| wish(hub, port, &channel, &rule, id));
            assert_eq!(hub.lines.count.load(Ordering::Relaxed), 1, "a line has formed");
            assert_eq!(hub.commands.available_permits(), permits);
            let mut all = given(port);
            assert!(all.is_empty());
            for turn in 0.. {
                if all.len() == BACKLOG + 4 {
                    break;
                }
                assert!(turn < 1000, "{} of them have come", all.len());
                yield_now().await;
                all.extend(given(port));
            }
            assert_eq!(all[BACKLOG..], ["0", "1", "2", "3"].map(data));
            assert_eq!(hub.lines.count.load(Ordering::Relaxed), 0);
            wish(hub, port, &channel, &rule, 4);
            assert_eq!(hub.lines.count.load(Ordering::Relaxed), 0, "it has begun at once");
        });
    }
}
