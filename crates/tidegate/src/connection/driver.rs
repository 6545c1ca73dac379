//! The driver: one small task per connection. Never deaf: a peer that takes nothing still meets its pings, its slot and its end.

use std::cell::RefCell;
use std::future::Future;
use std::io::IoSlice;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use smallvec::SmallVec;
use tidegate_core::session::{Ending, Input, Output, SubscriptionId, Transmit};
use tidegate_core::{ChannelName, Moment};
use tokio::io::ReadBuf;
use tokio::time::Sleep;

use super::frames::{Codec, Received};
use super::raw::Inbox;
use super::{Outside, Port, Socket};
use crate::clock::Clock;

/// Bytes read in one turn, into a buffer that the thread's connections share.
const READ_BYTES: usize = 64 * 1024;
/// What one write gathers: past either, another turn costs less than the waiting of the other connections.
const WRITE_BYTES: usize = 64 * 1024;
const WRITE_FRAMES: usize = 64;
/// Frames decoded in one turn: a flood of empty ones is work for the sender as much as for us, and the others get their turn.
const FRAMES_PER_TURN: u32 = 1024;
/// Turns in a row before the other connections of the thread get theirs.
const TURNS: usize = 4;

thread_local! {
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_BYTES].into_boxed_slice());
}

/// The frames of one write; on the stack of the turn that makes it.
type Batch = SmallVec<[Bytes; WRITE_FRAMES]>;

/// Serves a connection's socket until its session says that it has ended.
pub(crate) struct Driver {
    socket: Socket,
    port: Arc<Port>,
    outside: Arc<dyn Outside>,
    clock: Clock,
    codec: Codec,
    /// What a write left over.
    unwritten: Option<Box<Unwritten>>,
    /// Whether a layer in between may hold back the end of what was written.
    unflushed: bool,
    /// What was read and can't be handled yet: the session or the application has enough to do.
    unread: Option<Box<Bytes>>,
    /// The earliest timeout asked for since it last fired. Moved only forwards in time, so that most turns don't touch the wheel.
    alarm: Option<Pin<Box<Sleep>>>,
    alarm_at: Option<Moment>,
    attached: Vec<(SubscriptionId, ChannelName)>,
    lanes_behind: u32,
    read: Read,
    ending: Option<Ending>,
}

/// What a driver begins with.
pub(crate) struct Start {
    pub(crate) socket: Socket,
    pub(crate) port: Arc<Port>,
    pub(crate) outside: Arc<dyn Outside>,
    pub(crate) clock: Clock,
    pub(crate) codec: Codec,
    /// What the HTTP server had read past the request.
    pub(crate) already_read: Bytes,
}

/// The reading side of the socket.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Read {
    Open,
    /// The peer broke the protocol: what it still sends is thrown away, so that our close frame is not lost to a reset.
    Discarding,
    /// The peer's side has ended.
    Ended,
}

struct Unwritten {
    frames: Batch,
    /// How many of them are done.
    done: usize,
}

/// Whether a step did something, and so whether another turn is worth taking.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    Moved,
    Idle,
}

impl Driver {
    pub(crate) fn new(start: Start) -> Self {
        let Start { socket, port, outside, clock, codec, already_read } = start;
        let unread = (!already_read.is_empty()).then(|| Box::new(already_read));
        Self {
            socket,
            port,
            outside,
            clock,
            codec,
            unwritten: None,
            unread,
            alarm: None,
            alarm_at: None,
            unflushed: false,
            attached: Vec::new(),
            lanes_behind: 0,
            read: Read::Open,
            ending: None,
        }
    }

    fn turn(&mut self, cx: &mut Context<'_>) -> Step {
        let now = self.clock.now();
        let read = self.read(cx, now);
        self.perform_outputs(now);
        let written = self.write(cx, now);
        self.perform_outputs(now);
        let rung = self.check_alarm(cx, now);
        self.perform_outputs(now);
        if [read, written, rung].contains(&Step::Moved) { Step::Moved } else { self.sleep_unless_work(cx) }
    }

    /// Leaves the waker behind under the lock, so that nothing that comes after the last look is missed.
    fn sleep_unless_work(&mut self, cx: &Context<'_>) -> Step {
        let port = Arc::clone(&self.port);
        let mut state = port.lock();
        if let Some(output) = state.session.poll_output() {
            drop(state);
            self.perform(output);
            return Step::Moved;
        }
        if state.cut || state.session.wants_write() && self.unwritten.is_none() && !state.blocked {
            return Step::Moved;
        }
        // An alarm that came due earlier meanwhile has to be set before sleeping.
        if state.session.poll_timeout().is_some_and(|at| self.is_too_late(at)) {
            return Step::Moved;
        }
        state.driver = Some(cx.waker().clone());
        Step::Idle
    }

    fn finish(&mut self, ending: Ending) {
        if self.ending.is_none() {
            self.ending = Some(ending);
        }
    }
}

/// Reading.
impl Driver {
    fn read(&mut self, cx: &mut Context<'_>, now: Moment) -> Step {
        if self.ending.is_some() || !self.may_read() {
            return Step::Idle;
        }
        if let Some(mut rest) = self.unread.take() {
            let taken = self.take_in(&rest, now);
            rest.advance(taken);
            if !rest.is_empty() {
                self.unread = Some(rest);
            }
            return if taken > 0 { Step::Moved } else { Step::Idle };
        }
        SCRATCH.with_borrow_mut(|scratch| self.read_into(cx, now, scratch))
    }

    fn may_read(&self) -> bool {
        match self.read {
            Read::Open => self.port.lock().session.wants_read() && !self.port.inbox().is_some_and(Inbox::is_full),
            Read::Discarding => true,
            Read::Ended => false,
        }
    }

    fn read_into(&mut self, cx: &mut Context<'_>, now: Moment, scratch: &mut [u8]) -> Step {
        let mut buffer = ReadBuf::new(scratch);
        let outcome = match self.socket.poll_read(cx, &mut buffer) {
            Poll::Pending => return Step::Idle,
            Poll::Ready(outcome) => outcome,
        };
        let received = buffer.filled();
        if outcome.is_err() || received.is_empty() {
            self.read = Read::Ended;
            self.port.lock().session.handle(now, Input::Disconnected);
        } else if self.read == Read::Open {
            let taken = self.take_in(received, now);
            if taken < received.len() && self.read == Read::Open {
                self.unread = Some(Box::new(Bytes::copy_from_slice(&received[taken..])));
            }
        }
        Step::Moved
    }

    /// Decodes until the bytes are used up or the session or the application has enough to do. Says how many bytes it used.
    fn take_in(&mut self, bytes: &[u8], now: Moment) -> usize {
        let mut rest = bytes;
        let mut frames = 0;
        while !rest.is_empty() && self.read == Read::Open && frames < FRAMES_PER_TURN {
            self.codec.limit_messages(self.port.lock().session.message_limit());
            let step = self.codec.receive(&mut rest);
            frames += step.frames;
            self.port.lock().session.handle(now, Input::Frames { count: step.frames, assembling: self.codec.is_assembling() });
            let Some(received) = step.received else { break };
            self.take_received(received, now);
            if !self.may_read() {
                break;
            }
        }
        self.port.lock().last_received = now;
        if self.read == Read::Open { bytes.len() - rest.len() } else { bytes.len() }
    }

    fn take_received(&mut self, received: Received, now: Moment) {
        let mut state = self.port.lock();
        match received {
            Received::Commands(commands) => commands.into_iter().for_each(|command| state.session.handle(now, Input::Message(command))),
            Received::Raw(message) => {
                state.session.handle(now, Input::RawReceived);
                drop(state);
                if let Some(inbox) = self.port.inbox() {
                    inbox.put(message);
                }
            }
            Received::Ping(payload) => state.session.handle(now, Input::PeerPing(payload)),
            Received::Pong => state.session.handle(now, Input::PeerPong),
            Received::Close(code) => state.session.handle(now, Input::PeerClosed(code)),
            Received::Violation(code, reason) => {
                self.read = Read::Discarding;
                state.session.handle(now, Input::Violation(code, reason));
            }
        }
    }
}

/// Writing.
impl Driver {
    fn write(&mut self, cx: &mut Context<'_>, now: Moment) -> Step {
        if self.ending.is_some() {
            return Step::Idle;
        }
        if self.unwritten.is_none() && !self.port.lock().session.wants_write() {
            return self.flush(cx, now);
        }
        match self.socket.poll_writable(cx) {
            Poll::Pending => self.blocked(now),
            Poll::Ready(Err(_)) => self.broken(now),
            Poll::Ready(Ok(())) => {
                let (frames, done) = match self.unwritten.take() {
                    Some(unwritten) => (unwritten.frames, unwritten.done),
                    None => (self.gather(now), 0),
                };
                self.write_batch(cx, now, frames, done)
            }
        }
    }

    /// Takes from the session what one write can carry. Encoding happens without the lock.
    fn gather(&mut self, now: Moment) -> Batch {
        let mut taken: SmallVec<[Transmit; WRITE_FRAMES]> = SmallVec::new();
        let mut state = self.port.lock();
        let (mut bytes, mut slices) = (0, 0);
        while bytes < WRITE_BYTES && slices + Codec::SLICES_PER_FRAME <= WRITE_FRAMES {
            let Some(transmit) = state.session.poll_transmit(now) else { break };
            let size = Codec::size(&transmit);
            bytes += size.bytes;
            slices += size.slices;
            taken.push(transmit);
        }
        drop(state);
        let mut batch = Batch::new();
        for transmit in taken {
            if let Some(reason) = Codec::gap_in(&transmit) {
                self.outside.gap_sent(reason);
            }
            self.codec.encode(transmit, &mut batch);
        }
        batch
    }

    fn write_batch(&mut self, cx: &mut Context<'_>, now: Moment, mut frames: Batch, mut done: usize) -> Step {
        let outcome = {
            let mut slices = [IoSlice::new(&[]); WRITE_FRAMES];
            let waiting = &frames[done..];
            for (slice, frame) in slices.iter_mut().zip(waiting) {
                *slice = IoSlice::new(frame);
            }
            self.socket.poll_write(cx, &slices[..waiting.len().min(WRITE_FRAMES)])
        };
        let written = match outcome {
            Poll::Ready(Ok(0)) if done < frames.len() => return self.broken(now),
            Poll::Ready(Ok(written)) => written,
            Poll::Ready(Err(_)) => return self.broken(now),
            Poll::Pending => {
                self.unwritten = Some(Box::new(Unwritten { frames, done }));
                return self.blocked(now);
            }
        };
        let mut left = written;
        while done < frames.len() && left >= frames[done].len() {
            left -= frames[done].len();
            frames[done] = Bytes::new();
            done += 1;
        }
        if done < frames.len() {
            frames[done].advance(left);
            self.unwritten = Some(Box::new(Unwritten { frames, done }));
        }
        self.wrote(cx, now, written);
        Step::Moved
    }

    fn wrote(&mut self, cx: &mut Context<'_>, now: Moment, bytes: usize) {
        let mut state = self.port.lock();
        state.blocked = false;
        state.last_sent = now;
        state.session.handle(now, Input::Wrote(bytes));
        if state.session.is_low() {
            state.give_room();
        }
        let has_room = state.session.has_room();
        drop(state);
        if has_room && let Some(inbox) = self.port.inbox() {
            inbox.give_room();
        }
        if self.unwritten.is_none() {
            self.unflushed = true;
            self.flush(cx, now);
        }
    }

    /// Sees to it that what was written is on its way, and tells the session: the last thing may have been its close frame.
    fn flush(&mut self, cx: &mut Context<'_>, now: Moment) -> Step {
        if !self.unflushed || self.socket.poll_flush(cx).is_pending() {
            return Step::Idle;
        }
        self.unflushed = false;
        self.port.lock().session.handle(now, Input::Flushed);
        if self.read == Read::Discarding {
            // A failed connection is ended by us: the peer sees our close frame and the end at once (RFC 6455, 7.1.7).
            let _ = self.socket.poll_shutdown(cx);
        }
        Step::Moved
    }

    fn blocked(&mut self, now: Moment) -> Step {
        let mut state = self.port.lock();
        if !std::mem::replace(&mut state.blocked, true) {
            state.session.handle(now, Input::Blocked);
        }
        Step::Idle
    }

    /// The socket failed: nothing can be written any more, and so nothing read is worth an answer.
    fn broken(&mut self, now: Moment) -> Step {
        self.read = Read::Ended;
        self.port.lock().session.handle(now, Input::Disconnected);
        Step::Moved
    }
}

/// Time, and what the session wants from outside.
impl Driver {
    fn check_alarm(&mut self, cx: &mut Context<'_>, now: Moment) -> Step {
        let wanted = self.port.lock().session.poll_timeout();
        if let Some(at) = wanted
            && self.is_too_late(at)
        {
            self.arm(at);
        }
        let Some(alarm) = self.alarm.as_mut().filter(|_| self.alarm_at.is_some()) else { return Step::Idle };
        if alarm.as_mut().poll(cx).is_pending() {
            return Step::Idle;
        }
        self.alarm_at = None;
        let mut state = self.port.lock();
        if self.port.inbox().is_some_and(Inbox::is_full) {
            // The application holds up reading: silence is ours, not the peer's.
            state.session.handle(now, Input::Frames { count: 0, assembling: false });
        }
        state.session.handle(now, Input::Timeout);
        Step::Moved
    }

    /// Whether the alarm as it is set would miss this moment.
    fn is_too_late(&self, at: Moment) -> bool {
        self.alarm_at.is_none_or(|set| at < set)
    }

    fn arm(&mut self, at: Moment) {
        let instant = self.clock.instant(at);
        match &mut self.alarm {
            Some(alarm) => alarm.as_mut().reset(instant),
            None => self.alarm = Some(Box::pin(tokio::time::sleep_until(instant))),
        }
        self.alarm_at = Some(at);
    }

    fn perform_outputs(&mut self, now: Moment) {
        if self.ending.is_some() {
            return;
        }
        let mut outputs: SmallVec<[Output; 4]> = SmallVec::new();
        loop {
            let mut state = self.port.lock();
            let (cut, lanes_behind) = (state.cut, state.session.lanes_behind());
            self.outside.buffered(state.session.outbox_bytes());
            while let Some(output) = state.session.poll_output() {
                outputs.push(output);
            }
            drop(state);
            self.follow_lanes(lanes_behind);
            if cut {
                return self.finish(Ending::Lost);
            }
            if outputs.is_empty() {
                return;
            }
            for output in outputs.drain(..) {
                if matches!(output, Output::MeasureUnsent) {
                    let unsent = self.socket.unsent();
                    self.port.lock().session.handle(now, Input::Unsent(unsent));
                } else {
                    self.perform(output);
                }
            }
        }
    }

    fn perform(&mut self, output: Output) {
        match output {
            Output::Terminate(ending) => self.finish(ending),
            Output::Notice(notice) => self.outside.notice(&self.port, notice),
            Output::MeasureUnsent => {
                let unsent = self.socket.unsent();
                self.port.lock().session.handle(self.clock.now(), Input::Unsent(unsent));
            }
            Output::Attach { subscription, ref channel, .. } => {
                self.attached.push((subscription, channel.clone()));
                self.outside.perform(&self.port, output);
            }
            Output::Detach { subscription, ref channel } => {
                self.attached.retain(|(attached, _)| *attached != subscription);
                self.outside.detach(&self.port, subscription, channel);
            }
            other => self.outside.perform(&self.port, other),
        }
    }

    fn follow_lanes(&mut self, behind: usize) {
        let behind = u32::try_from(behind).unwrap_or(u32::MAX);
        if behind != self.lanes_behind {
            self.outside.lanes_behind(i64::from(behind) - i64::from(self.lanes_behind));
            self.lanes_behind = behind;
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
                return Poll::Ready(());
            }
            if step == Step::Idle {
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Drop for Driver {
    /// However it ends, by its session, by a panic or with the runtime: nothing of it stays behind.
    fn drop(&mut self) {
        let now = self.clock.now();
        let place = {
            let mut state = self.port.lock();
            state.ended = true;
            state.give_room();
            state.place.take()
        };
        drop(place);
        if let Some(inbox) = self.port.inbox() {
            inbox.end();
        }
        for (subscription, channel) in self.attached.drain(..) {
            self.outside.detach(&self.port, subscription, &channel);
        }
        self.follow_lanes(0);
        let age = now.since(self.port.facts().opened);
        self.outside.ended(&self.port, age, self.ending.unwrap_or(Ending::Lost));
    }
}
