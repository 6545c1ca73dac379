//! A session on a bench: time that jumps, outputs and frames collected.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::ProptestConfig;
use tidegate_core::message::{ClientMessage, Credential, Publish, ServerMessage, Since};
use tidegate_core::session::{Input, Mode, Notice, Opening, Output, Push, SubscriptionId, Transmit};
use tidegate_core::{
    Body, ChannelKind, ChannelName, ChannelRule, CloseCode, ConnectionId, Epoch, ErrorCode, Grants, HistoryAccess, Identity, LimitSettings,
    Moment, OutboxSettings, Overflow, Pattern, Position, Publication, RateSettings, Session, SessionSettings,
};

pub(crate) struct Bench {
    pub(crate) session: Session,
    pub(crate) now: Moment,
}

/// Settings with a channel rule per kind and policy, and a rate that gets in nobody's way.
pub(crate) fn settings() -> SessionSettings {
    SessionSettings {
        channels: vec![
            rule("oldest:*", ChannelKind::Event, Overflow::DropOldest),
            rule("newest:*", ChannelKind::Event, Overflow::DropNewest),
            rule("sample:*", ChannelKind::Event, Overflow::Sample),
            rule("cut:*", ChannelKind::Event, Overflow::Disconnect),
            rule("pause:*", ChannelKind::Event, Overflow::Pause),
            rule("log:*", ChannelKind::Log, Overflow::CatchUp),
            rule("strict:*", ChannelKind::Log, Overflow::Disconnect),
            rule("state:*", ChannelKind::State, Overflow::CatchUp),
            Arc::new(ChannelRule { history: HistoryAccess::Granted, ..(*rule("secret:*", ChannelKind::Log, Overflow::CatchUp)).clone() }),
        ],
        limits: LimitSettings { rate: RateSettings { per_second: 1000, burst: 100_000 }, ..LimitSettings::default() },
        node: "n1".into(),
        ..SessionSettings::default()
    }
}

/// The same with an outbox of this size.
pub(crate) fn with_outbox(bytes: usize, messages: usize) -> SessionSettings {
    SessionSettings { outbox: OutboxSettings { bytes, messages, stall: Duration::from_secs(30) }, ..settings() }
}

/// How often the models are tried.
pub(crate) fn many_cases() -> ProptestConfig {
    ProptestConfig { cases: 10_000, failure_persistence: None, ..ProptestConfig::default() }
}

pub(crate) fn rule(pattern: &str, kind: ChannelKind, overflow: Overflow) -> Arc<ChannelRule> {
    Arc::new(ChannelRule { overflow, ..ChannelRule::new(Pattern::new(pattern).unwrap(), kind) })
}

pub(crate) fn identity() -> Arc<Identity> {
    let everything = || vec![Pattern::new("**").unwrap()];
    let grants = Grants { subscribe: everything(), publish: everything(), history: vec![] };
    Arc::new(Identity { user: Some("u1".into()), grants, ..Identity::default() })
}

pub(crate) fn name(text: &str) -> ChannelName {
    ChannelName::new(text).unwrap()
}

pub(crate) const EPOCH: Epoch = Epoch::new(7);

pub(crate) fn at(offset: u64) -> Position {
    Position { epoch: EPOCH, offset }
}

/// A message whose data says its offset and which costs `size` bytes more than the least.
pub(crate) fn publication(channel: &str, position: Option<Position>, key: Option<&str>, number: u64, size: usize) -> Arc<Publication> {
    let data = Bytes::from(format!("{number:>0width$}", width = size.max(1)));
    Arc::new(Publication::new(name(channel), position, None, key.map(Into::into), Body::Data(data)))
}

impl Bench {
    pub(crate) fn new(settings: SessionSettings) -> Self {
        Self::open(Mode::Tidegate, settings, Some(identity()))
    }

    pub(crate) fn raw(settings: SessionSettings) -> Self {
        Self::open(Mode::Raw, settings, None)
    }

    pub(crate) fn at(now: Moment, settings: SessionSettings) -> Self {
        Self::begin(now, Mode::Tidegate, settings, Some(identity()))
    }

    pub(crate) fn open(mode: Mode, settings: SessionSettings, identity: Option<Arc<Identity>>) -> Self {
        Self::begin(Moment::from_ms(1_000_000), mode, settings, identity)
    }

    fn begin(now: Moment, mode: Mode, settings: SessionSettings, identity: Option<Arc<Identity>>) -> Self {
        let opening = Opening { mode, settings: Arc::new(settings), connection: ConnectionId::new(1), identity, seed: 42 };
        Self { session: Session::new(now, opening), now }
    }

    pub(crate) fn handle(&mut self, input: Input) {
        self.session.handle(self.now, input);
    }

    /// A frame with one message in it.
    pub(crate) fn says(&mut self, message: ClientMessage) {
        self.handle(Input::Frames { count: 1, assembling: false });
        self.handle(Input::Message(message));
    }

    /// Lets time pass, with every timeout at its moment.
    pub(crate) fn pass(&mut self, span: Duration) {
        let until = self.now + span;
        while let Some(next) = self.session.poll_timeout().filter(|&next| next <= until) {
            self.now = self.now.max(next);
            self.handle(Input::Timeout);
        }
        self.now = until;
    }

    pub(crate) fn pass_ms(&mut self, ms: u64) {
        self.pass(Duration::from_millis(ms));
    }

    /// Lets time pass while the peer answers every ping, and nothing else happens.
    pub(crate) fn pass_answering(&mut self, span: Duration) {
        let until = self.now + span;
        while let Some(next) = self.session.poll_timeout().filter(|&next| next <= until) {
            self.now = self.now.max(next);
            self.handle(Input::Timeout);
            for transmit in self.write() {
                self.handle(Input::Frames { count: 1, assembling: false });
                match transmit {
                    Transmit::Ping(_) => self.handle(Input::PeerPong),
                    Transmit::Message(message) if *message == ServerMessage::Ping => self.handle(Input::Message(ClientMessage::Pong)),
                    _ => {}
                }
            }
        }
        self.now = until;
    }

    /// Everything there is to write, without a word that it was written.
    pub(crate) fn take(&mut self) -> Vec<Transmit> {
        std::iter::from_fn(|| self.session.poll_transmit(self.now)).collect()
    }

    /// Everything there is to write, and the socket takes it.
    pub(crate) fn write(&mut self) -> Vec<Transmit> {
        let taken = self.take();
        if !taken.is_empty() {
            self.handle(Input::Wrote(taken.len()));
            self.handle(Input::Flushed);
        }
        assert_eq!(self.session.poll_transmit(self.now), None);
        taken
    }

    /// The messages among what there is to write.
    pub(crate) fn messages(&mut self) -> Vec<ServerMessage> {
        let message = |transmit| match transmit {
            Transmit::Message(message) => Some(*message),
            _ => None,
        };
        self.write().into_iter().filter_map(message).collect()
    }

    pub(crate) fn outputs(&mut self) -> Vec<Output> {
        std::iter::from_fn(|| self.session.poll_output()).collect()
    }

    pub(crate) fn notices(&mut self) -> Vec<Notice> {
        let notice = |output| match output {
            Output::Notice(notice) => Some(notice),
            _ => None,
        };
        self.outputs().into_iter().filter_map(notice).collect()
    }

    /// Subscribes and gives the id; the attach is not answered yet.
    pub(crate) fn subscribe(&mut self, id: u64, channel: &str, since: Option<Since>) -> SubscriptionId {
        self.says(ClientMessage::Subscribe { id, channel: name(channel), since });
        let attach = |output| match output {
            Output::Attach { subscription, .. } => Some(subscription),
            _ => None,
        };
        self.outputs().into_iter().find_map(attach).expect("an attach")
    }

    /// Subscribes to a channel that ends at this offset (`None` on event channels), and reads what is said about it.
    pub(crate) fn join(&mut self, channel: &str, top: Option<u64>) -> SubscriptionId {
        let subscription = self.subscribe(1, channel, None);
        self.handle(Input::Attached(subscription, Ok(top.map(at))));
        self.write();
        subscription
    }

    pub(crate) fn deliver(&mut self, subscription: SubscriptionId, publication: &Arc<Publication>) -> Push {
        self.session.deliver(self.now, subscription, publication)
    }

    /// The code and reason of the close frame that is to be written.
    pub(crate) fn close_frame(&mut self) -> Option<(u16, String)> {
        self.write().into_iter().find_map(|transmit| match transmit {
            Transmit::Close { code, reason } => Some((code.unwrap_or(1005), reason.to_string())),
            _ => None,
        })
    }

    /// The code that the session says it closes with.
    pub(crate) fn closing(&mut self) -> Option<CloseCode> {
        self.notices().into_iter().find_map(|notice| match notice {
            Notice::Closing { code, .. } => Some(code),
            _ => None,
        })
    }

    /// The one error reply among the messages, as code and retry time.
    pub(crate) fn error(&mut self) -> Option<(ErrorCode, Option<u64>)> {
        self.messages().into_iter().find_map(|message| match message {
            ServerMessage::Error { code, retry_after_ms, .. } => Some((code, retry_after_ms)),
            _ => None,
        })
    }
}

pub(crate) fn publish(channel: &str) -> Publish {
    Publish { channel: name(channel), message_id: None, key: None, body: Body::Data(Bytes::from_static(b"1")) }
}

pub(crate) fn token(id: u64) -> ClientMessage {
    ClientMessage::Auth { id, credential: Credential::Token("t".into()) }
}

pub(crate) const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}
