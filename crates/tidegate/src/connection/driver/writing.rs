//! Writing: what the session gives when the socket can take it, gathered into one vectored write, its rest kept as state.

use std::io::IoSlice;
use std::task::{Context, Poll};

use bytes::Bytes;
use smallvec::SmallVec;
use tidegate_core::Moment;
use tidegate_core::session::{Input, Transmit};

use super::super::frames::Codec;
use super::super::unwritten::Unwritten;
use super::reading::Read;
use super::{Driver, Step};

/// What one write gathers: past either, another turn costs less than the waiting of the other connections.
const WRITE_BYTES: usize = 64 * 1024;
const WRITE_FRAMES: usize = 64;

/// The frames of one write; on the stack of the turn that makes it, and never moved: it is two kilobytes.
type Batch = SmallVec<[Bytes; WRITE_FRAMES]>;

impl Driver {
    pub(super) fn write(&mut self, cx: &mut Context<'_>, now: Moment, wants_write: bool) -> Step {
        if self.ending.is_some() {
            return Step::Idle;
        }
        if self.unwritten.is_none() && !wants_write {
            return self.flush(cx, now);
        }
        self.withhold();
        match self.socket.poll_writable(cx) {
            Poll::Pending => self.blocked(now),
            Poll::Ready(Err(_)) => self.broken(now),
            Poll::Ready(Ok(())) => {
                let mut batch = Batch::new();
                let (begun, may_gather) = match self.unwritten.take() {
                    Some(unwritten) => (unwritten.begun(), unwritten.unpack(&mut batch)),
                    None => (0, true),
                };
                let ends = may_gather && self.gather(&mut batch, now);
                self.write_batch(cx, now, &mut batch, begun, ends)
            }
        }
    }

    /// Lets go of what the session does not want written any more; a frame that has begun is finished.
    fn withhold(&mut self) {
        if self.unwritten.is_none() || !self.port.lock().session.withholds() {
            return;
        }
        self.unwritten = self.unwritten.take().and_then(Unwritten::only_begun);
        let bytes = self.unwritten.as_ref().map_or(0, |unwritten| unwritten.begun());
        self.port.lock().under_way = u32::try_from(bytes).unwrap_or(u32::MAX);
    }

    /// Takes from the session what one write can carry besides what is in the batch. Encoding happens without the lock. Says whether
    /// the connection ends with it.
    fn gather(&mut self, batch: &mut Batch, now: Moment) -> bool {
        let mut taken: SmallVec<[Transmit; WRITE_FRAMES]> = SmallVec::new();
        let mut state = self.port.lock();
        let (mut bytes, mut slices) = (0, batch.len());
        while bytes < WRITE_BYTES && slices + Codec::SLICES_PER_FRAME <= WRITE_FRAMES {
            let Some(transmit) = state.session.poll_transmit(now) else { break };
            let size = Codec::size(&transmit);
            bytes += size.bytes;
            slices += size.slices;
            taken.push(transmit);
        }
        state.under_way = u32::try_from(bytes).unwrap_or(u32::MAX);
        let ends = state.session.ends_once_written();
        drop(state);
        for transmit in taken.drain(..) {
            if let Some(reason) = Codec::gap_in(&transmit) {
                self.outside.gap_sent(reason);
            }
            self.codec.encode(transmit, batch);
        }
        ends
    }

    fn write_batch(&mut self, cx: &mut Context<'_>, now: Moment, batch: &mut Batch, begun: usize, ends: bool) -> Step {
        let outcome = {
            let slices: SmallVec<[IoSlice<'_>; WRITE_FRAMES]> = batch.iter().take(WRITE_FRAMES).map(|frame| IoSlice::new(frame)).collect();
            if ends { self.socket.poll_write_end(cx, &slices) } else { self.socket.poll_write(cx, &slices) }
        };
        let written = match outcome {
            Poll::Ready(Ok(0)) if !batch.is_empty() => return self.broken(now),
            Poll::Ready(Ok(written)) => written,
            Poll::Ready(Err(_)) => return self.broken(now),
            Poll::Pending => {
                self.unwritten = Unwritten::of_batch(batch, begun, 0);
                return self.blocked(now);
            }
        };
        self.unwritten = Unwritten::of_batch(batch, begun, written);
        self.wrote(cx, now, written);
        // What is left over needs the socket's waker, and so another turn.
        if self.unwritten.is_some() { Step::Moved } else { Step::Idle }
    }

    fn wrote(&mut self, cx: &mut Context<'_>, now: Moment, bytes: usize) {
        self.unflushed = self.unwritten.is_none() && self.socket.poll_flush(cx).is_pending();
        let flushed = self.unwritten.is_none() && !self.unflushed;
        let mut state = self.port.lock();
        state.blocked = false;
        state.session.handle(now, Input::Wrote(bytes));
        if flushed {
            state.session.handle(now, Input::Flushed);
        }
        state.under_way =
            if self.unwritten.is_none() { 0 } else { state.under_way.saturating_sub(u32::try_from(bytes).unwrap_or(u32::MAX)) };
        drop(state);
        if let Some(inbox) = self.port.inbox() {
            inbox.give_room();
        }
        if flushed {
            self.end_if_discarding(cx);
        }
    }

    /// Sees to it that what was written is on its way, and tells the session: the last thing may have been its close frame.
    fn flush(&mut self, cx: &mut Context<'_>, now: Moment) -> Step {
        if !self.unflushed || self.socket.poll_flush(cx).is_pending() {
            return Step::Idle;
        }
        self.unflushed = false;
        self.port.lock().session.handle(now, Input::Flushed);
        self.end_if_discarding(cx);
        Step::Moved
    }

    /// A failed connection is ended by us: the peer sees our close frame and the end at once (RFC 6455, 7.1.7). Not before it:
    /// what was flushed may have been the rest of an earlier write.
    fn end_if_discarding(&mut self, cx: &mut Context<'_>) {
        if self.read == Read::Discarding && self.port.lock().session.has_written_close() {
            let _ = self.socket.poll_shutdown(cx);
        }
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
