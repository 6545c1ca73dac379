//! The driver: one small task per connection. Never deaf: a peer that takes nothing still meets its pings, its slot and its end.

mod alarm;
mod reading;
mod writing;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use tidegate_core::session::{Ending, Input, Notice, Output};
use tidegate_core::{CloseCode, Moment};

use self::alarm::Alarm;
use self::reading::{Appetite, Aside, Read};
use super::frames::Codec;
use super::raw::Inbox;
use super::unwritten::Unwritten;
use super::{Outside, Port, Socket};

/// Turns in a row before the other connections of the thread get theirs.
const TURNS: usize = 4;

/// Serves a connection's socket until its session says that it has ended.
pub(crate) struct Driver {
    socket: Socket,
    port: Arc<Port>,
    outside: Arc<dyn Outside>,
    codec: Codec,
    /// What a write left over.
    unwritten: Option<Box<Unwritten>>,
    /// Whether a layer in between may hold back the end of what was written.
    unflushed: bool,
    aside: Option<Box<Aside>>,
    alarm: Alarm,
    read: Read,
    ending: Option<Ending>,
}

/// What a driver begins with.
pub(crate) struct Start {
    pub(crate) socket: Socket,
    pub(crate) port: Arc<Port>,
    pub(crate) outside: Arc<dyn Outside>,
    pub(crate) codec: Codec,
    /// What was read past the request.
    pub(crate) already_read: Bytes,
    /// The 101, where it is not said yet: it goes out in one write with what the session says first.
    pub(crate) unsaid: Option<Bytes>,
}

/// Whether a step did something, and so whether another turn is worth taking.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    Moved,
    Idle,
}

impl Driver {
    pub(crate) fn new(start: Start) -> Self {
        let Start { socket, port, outside, codec, already_read, unsaid } = start;
        let aside = (!already_read.is_empty()).then(|| Box::new(Aside::Unread(already_read)));
        if codec.is_plain() {
            port.lock().direct.open(socket.shared().cloned());
        }
        Self {
            socket,
            port,
            outside,
            codec,
            unwritten: unsaid.map(Unwritten::first),
            aside,
            alarm: Alarm::new(),
            unflushed: false,
            read: Read::Open,
            ending: None,
        }
    }

    pub(super) const fn outside(&self) -> &Arc<dyn Outside> {
        &self.outside
    }

    /// One look at everything. In the common case, a wake for something to write, it takes the lock four times: to look, to
    /// gather, to book what was written, and to go to sleep.
    fn turn(&mut self, cx: &mut Context<'_>) -> Step {
        let now = self.outside.clock().now();
        let (appetite, mut wants_write) = {
            let mut state = self.port.lock();
            // Awake, whoever woke it: from here on nobody else writes.
            state.driver = None;
            if let Some(rest) = state.direct.take_rest() {
                self.unwritten = Some(rest);
            }
            (Appetite::of(&state.session), state.session.wants_write())
        };
        let read = self.read(cx, now, appetite);
        if read == Step::Moved {
            // Answered in the same turn: the deadline of a close handshake that ends at once needs no alarm either.
            self.perform_outputs(now);
            wants_write = self.port.lock().session.wants_write();
        }
        let written = self.write(cx, now, wants_write);
        let moved = [read, written].contains(&Step::Moved);
        if moved {
            self.perform_outputs(now);
        }
        // What ends now needs no alarm: setting one that is earlier than all others would wake the runtime's timer for nothing.
        if self.ending.is_some() {
            return Step::Moved;
        }
        if self.check_alarm(cx, now) == Step::Moved {
            self.perform_outputs(now);
            return Step::Moved;
        }
        if moved {
            return Step::Moved;
        }
        self.sleep_unless_work(cx, now, appetite.wants_read)
    }

    /// Leaves the waker behind under the lock, so that nothing that comes after the last look is missed.
    fn sleep_unless_work(&mut self, cx: &Context<'_>, now: Moment, has_read: bool) -> Step {
        let port = Arc::clone(&self.port);
        let mut state = port.lock();
        state.observe(&*self.outside);
        if state.cut || state.session.has_output() {
            drop(state);
            self.perform_outputs(now);
            return Step::Moved;
        }
        if state.session.wants_write() && self.unwritten.is_none() && !state.blocked {
            return Step::Moved;
        }
        // What was written may have made room for another command: the socket has to be asked, or it will not wake us.
        if !has_read && state.session.wants_read() {
            return Step::Moved;
        }
        // An alarm that came due earlier meanwhile has to be set before sleeping.
        if state.session.poll_timeout().is_some_and(|at| !self.alarm.is_set_for(at)) {
            return Step::Moved;
        }
        state.driver = Some(cx.waker().clone());
        Step::Idle
    }

    /// Nobody is to wait for it any more, or to write to it, though it may be a while until it is taken apart.
    fn let_go(&self) {
        self.port.lock().end(&*self.outside);
        if let Some(inbox) = self.port.inbox() {
            inbox.end();
        }
    }

    fn finish(&mut self, ending: Ending) {
        if self.ending.is_none() {
            self.ending = Some(ending);
        }
    }
}

/// Time, and what the session wants from outside.
impl Driver {
    fn check_alarm(&mut self, cx: &mut Context<'_>, now: Moment) -> Step {
        let resumes = self.aside.as_ref().and_then(|aside| aside.resumes());
        let wanted = self.port.lock().session.poll_timeout().into_iter().chain(resumes).min();
        let is_new = wanted.is_some_and(|at| !self.alarm.is_set_for(at));
        if let Some(at) = wanted.filter(|_| is_new) {
            self.alarm.set(cx, at, &self.outside);
        }
        // Once asked, it has the waker of this task, which never changes: it need not be asked again before its time.
        if !(is_new || self.alarm.is_set_for(now)) || !self.alarm.rings(cx, now, &self.outside) {
            return Step::Idle;
        }
        let mut state = self.port.lock();
        if self.port.inbox().is_some_and(Inbox::is_full) {
            // The application holds up reading: silence is ours, not the peer's.
            state.session.handle(now, Input::Frames { count: 0, assembling: false });
        }
        state.session.handle(now, Input::Timeout);
        Step::Moved
    }

    fn perform_outputs(&mut self, now: Moment) {
        if self.ending.is_some() {
            return;
        }
        // One by one: what is not performed yet is the session's, also where one of them panics.
        loop {
            let mut state = self.port.lock();
            state.observe(&*self.outside);
            if state.cut {
                drop(state);
                return self.finish(Ending::Lost);
            }
            let output = state.session.poll_output();
            drop(state);
            match output {
                Some(output) => self.perform(output, now),
                None => return,
            }
        }
    }

    fn perform(&mut self, output: Output, now: Moment) {
        match output {
            Output::Terminate(ending) => self.finish(ending),
            Output::Notice(notice) => {
                // Who floods is told why it ends, and then not listened to: understanding costs more than throwing away.
                if matches!(notice, Notice::Closing { code: CloseCode::RateLimited, .. }) && self.read == Read::Open {
                    self.read = Read::Discarding;
                    self.aside = None;
                }
                self.outside.notice(&self.port, notice);
            }
            Output::MeasureUnsent => {
                let unsent = self.socket.unsent();
                self.port.lock().session.handle(now, Input::Unsent(unsent));
            }
            Output::Detach { subscription, ref channel } => Arc::clone(&self.outside).detach(&self.port, subscription, channel),
            other => Arc::clone(&self.outside).perform(&self.port, other),
        }
    }
}

impl Future for Driver {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        for _ in 0..TURNS {
            let step = self.turn(cx);
            if self.ending.is_some() {
                // Best effort: TLS says goodbye, TCP sends its FIN before anything unread could turn the close into a reset.
                let _ = self.socket.poll_shutdown(cx);
                self.let_go();
                return Poll::Ready(());
            }
            if step == Step::Idle {
                return Poll::Pending;
            }
            // Who has sent more than is answered one by one gets its next answer when the others have had theirs.
            if self.has_unread() {
                break;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Drop for Driver {
    /// However it ends, by its session, by a panic or with the runtime: nothing of it stays behind.
    fn drop(&mut self) {
        self.alarm.clear(&self.outside);
        let now = self.outside.clock().now();
        self.let_go();
        let (place, attached) = {
            let mut state = self.port.lock();
            (state.place.take(), state.session.abandon())
        };
        drop(place);
        for (subscription, channel) in attached {
            Arc::clone(&self.outside).detach(&self.port, subscription, &channel);
        }
        let age = now.since(self.port.facts().opened);
        self.outside.ended(&self.port, age, self.ending.unwrap_or(Ending::Lost));
    }
}
