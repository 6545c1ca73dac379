//! A connection's port: where everyone else reaches its session. Lock, tell the session, unlock, wake the driver if it sleeps.

use std::net::IpAddr;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};
use smallvec::SmallVec;
use tidegate_core::session::{Input, Push, Session, SubscriptionId};
use tidegate_core::{ChannelName, ConnectionId, Identity, Moment};
use tokio::sync::Notify;

use super::Outside;
use super::batch::Batch;
use super::direct::{Direct, Route};
use super::raw::{Inbox, Sent};
use crate::admission::Place;

/// A connection as the rest of the gate sees it.
#[derive(Debug)]
pub(crate) struct Port {
    id: ConnectionId,
    facts: Facts,
    inbox: Option<Box<Inbox>>,
    state: Mutex<State>,
}

/// What was known at the upgrade and never changes.
#[derive(Debug)]
pub(crate) struct Facts {
    /// The client's address, past trusted proxies.
    pub(crate) address: IpAddr,
    /// When the 101 was sent.
    pub(crate) opened: Moment,
    /// What the request's headers give away about the path.
    pub(crate) hints: Hints,
}

/// What the request's headers give away about the path, for the log line of a lost connection. Never content, never a credential.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Hints {
    /// `Via` was there.
    pub(crate) via: bool,
    /// `X-Forwarded-For` was there.
    pub(crate) forwarded: bool,
    /// The first product of `User-Agent`, cut and cleaned; most fit in place.
    pub(crate) agent: SmallVec<[u8; 16]>,
}

/// What is behind the lock.
#[derive(Debug)]
pub(super) struct State {
    pub(super) session: Session,
    /// The driver, while it sleeps and nobody has woken it: taken by the first who has something for it, and by itself.
    pub(super) driver: Option<Waker>,
    pub(super) direct: Direct,
    /// The socket takes no more: who only queues something need not wake the driver, the socket will.
    pub(super) blocked: bool,
    /// Bytes that the driver has taken from the session and the socket has not taken yet. It lies in what would be padding.
    pub(super) under_way: u32,
    /// Lanes that were behind when the driver last looked.
    pub(super) lanes_behind: u32,
    /// End at once.
    pub(super) cut: bool,
    /// The driver is gone; nobody will take what is put in.
    pub(super) ended: bool,
    pub(super) place: Option<Place>,
    /// Publishers of `pause` channels that wait for this outbox.
    room: Option<Arc<Notify>>,
}

impl Port {
    pub(crate) fn new(id: ConnectionId, facts: Facts, session: Session, place: Place, is_raw: bool) -> Self {
        let state = State {
            session,
            driver: None,
            direct: Direct::default(),
            blocked: false,
            under_way: 0,
            lanes_behind: 0,
            cut: false,
            ended: false,
            place: Some(place),
            room: None,
        };
        Self { id, facts, inbox: is_raw.then(Box::default), state: Mutex::new(state) }
    }

    pub(crate) const fn id(&self) -> ConnectionId {
        self.id
    }

    pub(crate) const fn facts(&self) -> &Facts {
        &self.facts
    }

    pub(super) fn inbox(&self) -> Option<&Inbox> {
        self.inbox.as_deref()
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Hands a batch to the session from its message number `from` on: the hot path of every fan-out. Tells what became of each message,
    /// and how many bytes waited then.
    pub(crate) fn deliver(
        &self,
        now: Moment,
        subscription: SubscriptionId,
        batch: &Batch,
        from: usize,
        route: Route,
        mut pushed: impl FnMut(Push),
    ) -> usize {
        let mut state = self.state.lock();
        let Some(messages) = batch.messages().get(from..).filter(|_| !state.is_over()) else { return 0 };
        if from == 0 && state.may_write(route) && state.session.pass(now, subscription, messages) {
            messages.iter().for_each(|_| pushed(Push::Queued));
            let sleeper = state.write_directly(now, batch);
            drop(state);
            wake(sleeper);
            return 0;
        }
        let mut fell_behind = false;
        for message in messages {
            let push = state.session.deliver(now, subscription, message);
            fell_behind |= push == Push::Parked && state.session.lanes_behind() > state.lanes_behind as usize;
            pushed(push);
        }
        let waiting = state.session.outbox_bytes();
        let has_work = state.session.has_output() || fell_behind || !state.blocked && state.session.wants_write();
        let sleeper = if has_work { state.driver.take() } else { None };
        drop(state);
        wake(sleeper);
        waiting
    }

    /// Whether the driver has done what it was woken for, as far as the socket lets it.
    pub(crate) fn is_at_rest(&self) -> bool {
        let state = self.lock();
        state.driver.is_some() || state.blocked || state.ended
    }

    /// Tells the session something and wakes the driver.
    pub(crate) fn tell(&self, now: Moment, input: Input) {
        self.change(|state| state.session.handle(now, input));
    }

    /// Gives a raw session a message to send, if there is room for it.
    pub(super) fn send_raw(&self, now: Moment, text: bool, data: &Bytes) -> Sent {
        let mut state = self.state.lock();
        if state.ended {
            return Sent::Closed;
        }
        if !state.session.has_room_for(data.len(), state.under_way as usize) {
            return Sent::Full;
        }
        state.session.handle(now, Input::RawSend { text, data: data.clone() });
        let sleeper = if state.blocked { None } else { state.driver.take() };
        drop(state);
        wake(sleeper);
        Sent::Yes
    }

    /// Lets a subscription share its channel's name with all others.
    pub(crate) fn share_name(&self, subscription: SubscriptionId, name: &ChannelName) {
        self.state.lock().session.share_name(subscription, name);
    }

    /// Ends the connection at once, without a close frame.
    pub(crate) fn cut(&self) {
        self.change(|state| state.cut = true);
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state.lock();
        if state.is_over() {
            return;
        }
        change(&mut state);
        let sleeper = state.driver.take();
        drop(state);
        wake(sleeper);
    }

    /// Changes the connection's place in the limits; `None` once it has ended.
    pub(crate) fn with_place<T>(&self, change: impl FnOnce(&mut Place) -> T) -> Option<T> {
        self.state.lock().place.as_mut().map(change)
    }

    /// Who it is, once that is known.
    pub(crate) fn identity(&self) -> Option<Arc<Identity>> {
        self.state.lock().session.identity().cloned()
    }

    /// Bytes that wait in its outbox.
    pub(crate) fn outbox_bytes(&self) -> usize {
        self.state.lock().session.outbox_bytes()
    }

    /// What an operator wants to know about it.
    pub(crate) fn look(&self, now: Moment) -> Look {
        let state = self.state.lock();
        Look {
            identity: state.session.identity().cloned(),
            age: now.since(self.facts.opened),
            last_sent_ago: now.since(state.session.last_sent().unwrap_or(self.facts.opened)),
            last_received_ago: now.since(state.session.last_received()),
            outbox_bytes: state.session.outbox_bytes(),
            lanes_behind: state.session.lanes_behind(),
        }
    }

    /// Whether publishers of `pause` channels are to wait for this outbox.
    pub(crate) fn is_full(&self) -> bool {
        let state = self.state.lock();
        !state.ended && state.session.wants_pause()
    }

    /// Waits until at most half of the outbox is taken, or the connection ends.
    pub(crate) async fn wait_for_room(&self) {
        let room = {
            let mut state = self.state.lock();
            if state.ended || !state.session.wants_pause() {
                return;
            }
            // Created under the lock: whoever gives room later wakes it.
            Arc::clone(state.room.get_or_insert_default()).notified_owned()
        };
        room.await;
    }
}

/// Outside of the lock: who is woken takes it first thing.
fn wake(sleeper: Option<Waker>) {
    if let Some(sleeper) = sleeper {
        sleeper.wake();
    }
}

impl State {
    /// Nothing reaches the session any more.
    const fn is_over(&self) -> bool {
        self.ended || self.cut
    }

    /// Whether the driver sleeps with a socket that takes bytes, as far as is known, so that another may write.
    const fn is_quiet(&self) -> bool {
        self.driver.is_some() && !self.blocked && self.direct.is_open()
    }

    fn may_write(&self, route: Route) -> bool {
        let by_route = match route {
            Route::Queue => false,
            Route::WriteToSingle => self.session.subscriptions() == 1,
            Route::Write => true,
        };
        by_route && self.is_quiet()
    }

    /// Writes a batch that the session let past. What the socket does not take is left to the driver, which is to be woken.
    fn write_directly(&mut self, now: Moment, batch: &Batch) -> Option<Waker> {
        let written = self.direct.write(batch.frames());
        self.under_way = u32::try_from(batch.frames().len() - written).unwrap_or(u32::MAX);
        if written > 0 {
            self.session.handle(now, Input::Wrote(written));
        }
        if self.direct.is_open() { None } else { self.driver.take() }
    }

    /// Tells the outside what changed since the driver last looked, and lets publishers of `pause` channels go on.
    pub(super) fn observe(&mut self, outside: &dyn Outside) {
        outside.buffered(self.session.outbox_bytes());
        self.tell_lanes_behind(outside, self.session.lanes_behind());
        if self.room.is_some() && !self.session.wants_pause() {
            self.give_room();
        }
    }

    /// Whether there is something to write and a socket that takes it.
    pub(super) fn wants_answered(&self) -> bool {
        !self.blocked && self.session.wants_write()
    }

    /// The driver is gone.
    pub(super) fn end(&mut self, outside: &dyn Outside) {
        self.ended = true;
        self.direct.close();
        self.tell_lanes_behind(outside, 0);
        self.give_room();
    }

    fn tell_lanes_behind(&mut self, outside: &dyn Outside, now: usize) {
        let now = u32::try_from(now).unwrap_or(u32::MAX);
        let before = std::mem::replace(&mut self.lanes_behind, now);
        if now != before {
            outside.lanes_behind(i64::from(now) - i64::from(before));
        }
    }

    fn give_room(&mut self) {
        if let Some(room) = self.room.take() {
            room.notify_waiters();
        }
    }
}

/// A connection at a moment.
#[derive(Clone, Debug)]
pub(crate) struct Look {
    pub(crate) identity: Option<Arc<Identity>>,
    pub(crate) age: Duration,
    pub(crate) last_sent_ago: Duration,
    pub(crate) last_received_ago: Duration,
    pub(crate) outbox_bytes: usize,
    pub(crate) lanes_behind: usize,
}

/// A driver's part, for tests of what others do with a port.
#[cfg(test)]
impl Port {
    /// Falls asleep, to be woken by this.
    pub(crate) fn sleep(&self, driver: Waker) {
        self.lock().driver = Some(driver);
    }

    /// Is at work; this would have woken it.
    pub(crate) fn stay_awake(&self) -> Option<Waker> {
        self.lock().driver.take()
    }

    /// Has a socket that others may write to while the driver sleeps.
    pub(crate) fn open(&self, stream: tokio::net::TcpStream) {
        self.lock().direct.open(Some(Arc::new(stream)));
    }

    pub(crate) fn with_session<T>(&self, change: impl FnOnce(&mut Session) -> T) -> T {
        change(&mut self.lock().session)
    }

    /// What is to be written next.
    pub(crate) fn next_transmit(&self, now: Moment) -> Option<tidegate_core::session::Transmit> {
        self.lock().session.poll_transmit(now)
    }
}
