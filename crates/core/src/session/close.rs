//! The end: the close handshake of RFC 6455, section 7, and its deadline.

use super::outbox::Outbox;
use super::timers::Timer;
use super::{Ending, Input, Output, Session, State, SubscriptionId, Transmit};
use crate::{ChannelName, CloseCode, Moment};

/// A close frame's reason is at most this long (RFC 6455, 5.5: 125 bytes less the code).
const REASON_BYTES: usize = 123;

/// A close handshake under way.
#[derive(Debug)]
pub(super) struct Closing {
    /// Why, if we began it.
    ours: Option<CloseCode>,
    /// What the frame says.
    reason: Box<str>,
    frame: Frame,
    /// The peer's frame, once it has come.
    peer: Option<Option<u16>>,
    /// The peer's side has ended: no frame will come.
    hung_up: bool,
    /// What was said before is written first, also what a socket has not begun on.
    keeps: bool,
}

/// How far our close frame has got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Frame {
    Waiting,
    Given,
    Written,
}

impl Closing {
    fn transmit(&mut self) -> Option<Transmit> {
        if self.frame != Frame::Waiting {
            return None;
        }
        self.frame = Frame::Given;
        let code = match (self.ours, self.peer) {
            (Some(code), _) => code.number(),
            // Its own code comes back; a frame without one is answered with 1000.
            (None, peer) => peer.flatten().unwrap_or(CloseCode::Normal.number()),
        };
        Some(Transmit::Close { code: Some(code), reason: std::mem::take(&mut self.reason) })
    }

    fn ending(&self) -> Ending {
        match (self.ours, self.peer) {
            (Some(code), Some(_)) => Ending::Clean { code: Some(code.number()), ours: true },
            (Some(code), None) => Ending::Unanswered(code),
            (None, peer) => Ending::Clean { code: peer.flatten(), ours: false },
        }
    }

    /// Whether the peer has nothing more to say.
    const fn is_answered(&self) -> bool {
        self.peer.is_some() || self.hung_up
    }

    fn is_complete(&self) -> bool {
        self.frame == Frame::Written && self.is_answered()
    }
}

impl Session {
    /// Begins the close handshake; without effect once one has begun. What waits in the outbox is not sent any more, nor what was
    /// taken from it and the socket has not begun on ([`Session::withholds`]): who wants it flushed first parts.
    pub(super) fn close(&mut self, now: Moment, code: CloseCode, retry_ms: Option<u64>, reason: Option<&str>) {
        if self.state.is_alive() {
            self.outputs.push_back(Output::Notice(self.heartbeat.closing(now, code)));
            let reason = reason_text(reason.unwrap_or(code.name()), retry_ms);
            self.shut(now, Closing { ours: Some(code), reason, frame: Frame::Waiting, peer: None, hung_up: false, keeps: false });
        }
    }

    /// The peer has sent its close frame.
    pub(super) fn peer_closed(&mut self, now: Moment, code: Option<u16>) {
        if self.state.is_alive() {
            self.shut(now, Closing { ours: None, reason: "".into(), frame: Frame::Waiting, peer: Some(code), hung_up: false, keeps: true });
        }
    }

    /// The TCP connection has ended.
    pub(super) fn disconnected(&mut self) {
        let ending = match &self.state {
            State::Closing(closing) => closing.ending(),
            _ => Ending::Lost,
        };
        self.leave_channels();
        self.terminate(ending);
    }

    /// What still matters once the close handshake has begun.
    pub(super) fn handle_closing(&mut self, now: Moment, input: &Input) {
        let State::Closing(closing) = &mut self.state else { return };
        match input {
            Input::PeerClosed(code) => closing.peer = closing.peer.or(Some(*code)),
            Input::Flushed if closing.frame == Frame::Given => closing.frame = Frame::Written,
            Input::Disconnected => return self.disconnected(),
            Input::Timeout if self.timers.expire(now) == Some(Timer::Close) => {
                let ending = closing.ending();
                return self.terminate(ending);
            }
            _ => return,
        }
        if closing.is_complete() {
            let ending = closing.ending();
            self.terminate(ending);
        }
    }

    /// Its connection is gone without its saying so. Tells what is left to be taken out of the hub: every subscription whose
    /// [`Output::Detach`] was not polled.
    pub fn abandon(&mut self) -> Vec<(SubscriptionId, ChannelName)> {
        self.leave_channels();
        self.terminate(Ending::Lost);
        let detached = |output| match output {
            Output::Detach { subscription, channel } => Some((subscription, channel)),
            _ => None,
        };
        std::mem::take(&mut self.outputs).into_iter().filter_map(detached).collect()
    }

    pub(super) fn transmit_close(&mut self) -> Option<Transmit> {
        match &mut self.state {
            State::Closing(closing) => closing.transmit(),
            _ => None,
        }
    }

    pub(super) fn has_close_to_write(&self) -> bool {
        matches!(&self.state, State::Closing(closing) if closing.frame == Frame::Waiting)
    }

    /// Whether our close frame has been written: nothing follows it.
    pub fn has_written_close(&self) -> bool {
        matches!(&self.state, State::Closing(closing) if closing.frame == Frame::Written)
    }

    /// Whether it ends as soon as what [`Session::poll_transmit`] has given is written: the close frame was the last of it, and the
    /// peer's has come.
    pub fn ends_once_written(&self) -> bool {
        matches!(&self.state, State::Closing(closing) if closing.frame == Frame::Given && closing.is_answered())
    }

    /// The peer's side has ended already: once our frame is written, it is over.
    pub(super) fn expect_no_answer(&mut self) {
        if let State::Closing(closing) = &mut self.state {
            closing.hung_up = true;
        }
    }

    /// A flush came before it: what was taken out is part of that.
    pub(super) fn keep_what_was_taken(&mut self) {
        if let State::Closing(closing) = &mut self.state {
            closing.keeps = true;
        }
    }

    /// Whether what [`Session::poll_transmit`] has given is not to be written any more, as far as the socket has not begun on it: it may
    /// be just what the close is to keep from the peer. A frame that has begun has to be finished; the close frame follows it.
    pub fn withholds(&self) -> bool {
        matches!(&self.state, State::Closing(closing) if closing.frame == Frame::Waiting && !closing.keeps)
    }

    pub(super) fn awaits_peer_close(&self) -> bool {
        matches!(&self.state, State::Closing(closing) if closing.peer.is_none())
    }

    fn shut(&mut self, now: Moment, closing: Closing) {
        self.leave_channels();
        self.outbox = Outbox::new(self.settings.outbox);
        self.backlog = None;
        self.depart = None;
        self.timers.stop_all();
        self.timers.set(Timer::Close, now + self.settings.limits.close);
        self.state = State::Closing(Box::new(closing));
    }

    fn terminate(&mut self, ending: Ending) {
        self.outbox = Outbox::new(self.settings.outbox);
        self.timers.stop_all();
        self.state = State::Ended;
        self.outputs.push_back(Output::Terminate(ending));
    }
}

/// `name` or `name;retry_ms=3500`, the name cut so that the whole fits.
fn reason_text(name: &str, retry_ms: Option<u64>) -> Box<str> {
    let retry = retry_ms.map(|retry| format!(";retry_ms={retry}")).unwrap_or_default();
    let room = REASON_BYTES - retry.len();
    let cut = (0..=room.min(name.len())).rev().find(|&at| name.is_char_boundary(at)).unwrap_or(0);
    format!("{}{retry}", &name[..cut]).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_always_fits_and_keeps_its_retry_time() {
        assert_eq!(&*reason_text("draining", None), "draining");
        assert_eq!(&*reason_text("draining", Some(3500)), "draining;retry_ms=3500");
        let long = reason_text(&"ü".repeat(100), Some(u64::MAX));
        assert!(long.len() <= REASON_BYTES && long.ends_with(";retry_ms=18446744073709551615"));
        assert!(long.starts_with("üüü"));
    }
}
