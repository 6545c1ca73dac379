//! A broker in memory, plain enough to be believed: the model that whole lives of sessions are run against.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tidegate_core::broker::{
    BoxFuture, Broker, BrokerError, Durability, Guarantees, HistoryError, Page, PageLimit, Published, Sequence, Sink, Snapshot, contract,
};
use tidegate_core::message::{Publish, Since};
use tidegate_core::{Body, ChannelKind, ChannelName, ChannelRule, Epoch, Position, Publication};

/// One channel: everything that was ever published in this epoch, and how much of it is still kept.
#[derive(Debug)]
pub(crate) struct Log {
    pub(crate) epoch: Epoch,
    pub(crate) all: Vec<Arc<Publication>>,
    /// Messages before this place are gone.
    pub(crate) gone: usize,
    /// Offsets rise by this much: they need not be dense.
    pub(crate) stride: u64,
}

impl Log {
    pub(crate) fn new(epoch: Epoch, stride: u64) -> Self {
        Self { epoch, all: Vec::new(), gone: 0, stride }
    }

    pub(crate) fn top(&self) -> Position {
        Position { epoch: self.epoch, offset: self.all.last().map_or(0, |last| last.offset()) }
    }

    /// The position before the oldest message that is kept.
    pub(crate) fn oldest(&self) -> Position {
        let offset = self.gone.checked_sub(1).map_or(0, |last_gone| self.all[last_gone].offset());
        Position { epoch: self.epoch, offset }
    }

    pub(crate) fn append(&mut self, publish: Publish) -> Arc<Publication> {
        let position = Position { epoch: self.epoch, offset: self.top().offset + self.stride };
        let publication = Arc::new(Publication::new(publish.channel, Some(position), publish.message_id, publish.key, publish.body));
        self.all.push(publication.clone());
        publication
    }

    /// Forgets all but the last `keep` messages.
    pub(crate) fn trim(&mut self, keep: usize) {
        self.gone = self.gone.max(self.all.len().saturating_sub(keep));
    }

    pub(crate) fn history(&self, kind: ChannelKind, since: Since, limit: PageLimit) -> Result<Page, HistoryError> {
        let (oldest, top) = (self.oldest(), self.top());
        let kept = &self.all[self.gone..];
        let start = match since {
            Since::Earliest => oldest,
            Since::Last(count) => {
                let skipped = kept.len().saturating_sub(usize::try_from(count).unwrap_or(usize::MAX));
                let offset = skipped.checked_sub(1).map_or(oldest.offset, |last| kept[last].offset());
                Position { epoch: self.epoch, offset }
            }
            Since::Position(position) if position.epoch != self.epoch || position.offset > top.offset => {
                return Err(HistoryError::Epoch { oldest, top });
            }
            Since::Position(position) if position.offset < oldest.offset => {
                let missed = self.all.iter().filter(|message| message.offset() > position.offset && message.offset() <= oldest.offset);
                return Err(HistoryError::Retention { oldest, top, missed: Some(missed.count() as u64) });
            }
            Since::Position(position) => position,
        };
        let after = kept.iter().filter(|message| message.offset() > start.offset);
        let wanted: Vec<_> = match kind {
            ChannelKind::State => latest(after),
            ChannelKind::Event | ChannelKind::Log => after.cloned().collect(),
        };
        let mut bytes = 0;
        let fits = |message: &&Arc<Publication>| {
            let begun = bytes;
            bytes += message.cost();
            begun == 0 || bytes <= limit.bytes
        };
        let messages: Vec<_> = wanted.iter().take(limit.messages).take_while(fits).cloned().collect();
        let more = messages.len() < wanted.len();
        Ok(Page { start, messages, top, more })
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        let entries = latest(self.all.iter()).into_iter().filter(|message| message.body != Body::Deleted).collect();
        Snapshot { position: self.top(), entries }
    }
}

/// The latest message of each key, in order of offset.
fn latest<'a>(messages: impl Iterator<Item = &'a Arc<Publication>>) -> Vec<Arc<Publication>> {
    let by_key: BTreeMap<_, _> = messages.map(|message| (message.key.clone(), message.clone())).collect();
    let mut latest: Vec<_> = by_key.into_values().collect();
    latest.sort_by_key(|message| message.offset());
    latest
}

/// The same as a [`Broker`], so that the model itself can be held to the contract.
struct ModelBroker(Mutex<Model>);

#[derive(Default)]
struct Model {
    sink: Option<Arc<dyn Sink>>,
    logs: BTreeMap<ChannelName, Log>,
    subscribed: Vec<ChannelName>,
    seen: BTreeMap<(ChannelName, Box<str>), Option<Position>>,
}

impl ModelBroker {
    fn on<'a, T: Send + 'a>(&'a self, act: impl FnOnce(&mut Model) -> T + Send + 'a) -> BoxFuture<'a, T> {
        Box::pin(async move { act(&mut self.0.lock().unwrap()) })
    }
}

impl Model {
    fn log(&mut self, channel: &ChannelName) -> &mut Log {
        let epoch = Epoch::new(self.logs.len() as u64 + 1);
        self.logs.entry(channel.clone()).or_insert_with(|| Log::new(epoch, 3))
    }

    fn publish(&mut self, rule: &ChannelRule, publish: Publish) -> Result<Published, BrokerError> {
        match (rule.kind, &publish.key, &publish.body) {
            (ChannelKind::State, None, _) => return Err(BrokerError::Invalid { field: "key", problem: "is missing" }),
            (ChannelKind::Log | ChannelKind::Event, _, Body::Deleted) => {
                return Err(BrokerError::Invalid { field: "deleted", problem: "only a state channel has entries to delete" });
            }
            _ => {}
        }
        let id = publish.message_id.as_deref().map(|id| (publish.channel.clone(), id.into()));
        if let Some(position) = id.as_ref().and_then(|id| self.seen.get(id)) {
            return Ok(Published { position: *position, duplicate: true });
        }
        let channel = publish.channel.clone();
        let publication = match rule.kind {
            ChannelKind::Event => Arc::new(Publication::new(publish.channel, None, publish.message_id, publish.key, publish.body)),
            ChannelKind::Log | ChannelKind::State => self.log(&channel).append(publish),
        };
        if rule.kind == ChannelKind::Log {
            self.log(&channel).trim(usize::try_from(rule.retention.messages).unwrap());
        }
        if self.subscribed.contains(&channel) {
            self.sink.as_ref().unwrap().deliver(&publication);
        }
        id.map(|id| self.seen.insert(id, publication.position));
        Ok(Published { position: publication.position, duplicate: false })
    }
}

impl Broker for ModelBroker {
    fn guarantees(&self) -> Guarantees {
        Guarantees { durability: Durability::Memory, dedup_window: Duration::MAX, dedup_messages: usize::MAX }
    }

    fn attach(&self, sink: Arc<dyn Sink>) {
        self.0.lock().unwrap().sink = Some(sink);
    }

    fn publish<'a>(&'a self, rule: &'a ChannelRule, publish: Publish) -> BoxFuture<'a, Result<Published, BrokerError>> {
        self.on(move |model| model.publish(rule, publish))
    }

    fn publish_all<'a>(
        &'a self,
        sequence: &'a Arc<Sequence>,
        rule: &'a ChannelRule,
        publishes: Vec<Publish>,
    ) -> BoxFuture<'a, Vec<Result<Published, BrokerError>>> {
        self.on(move |model| {
            let one = |publish| if sequence.is_broken() { Err(Sequence::refusal()) } else { model.publish(rule, publish) };
            publishes.into_iter().map(one).collect()
        })
    }

    fn subscribe<'a>(&'a self, rule: &'a ChannelRule, channel: &'a ChannelName) -> BoxFuture<'a, Result<Option<Position>, BrokerError>> {
        self.on(move |model| {
            if !model.subscribed.contains(channel) {
                model.subscribed.push(channel.clone());
            }
            Ok((rule.kind != ChannelKind::Event).then(|| model.log(channel).top()))
        })
    }

    fn unsubscribe<'a>(&'a self, channel: &'a ChannelName) -> BoxFuture<'a, Result<(), BrokerError>> {
        self.on(move |model| {
            model.subscribed.retain(|subscribed| subscribed != channel);
            Ok(())
        })
    }

    fn history<'a>(
        &'a self,
        rule: &'a ChannelRule,
        channel: &'a ChannelName,
        since: Since,
        limit: PageLimit,
    ) -> BoxFuture<'a, Result<Page, HistoryError>> {
        self.on(move |model| model.log(channel).history(rule.kind, since, limit))
    }

    fn snapshot<'a>(&'a self, _rule: &'a ChannelRule, channel: &'a ChannelName) -> BoxFuture<'a, Result<Arc<Snapshot>, BrokerError>> {
        self.on(move |model| Ok(Arc::new(model.log(channel).snapshot())))
    }
}

/// The model never waits, so its futures are ready when they are first polled.
fn run(future: impl Future<Output = ()>) {
    let mut context = Context::from_waker(Waker::noop());
    assert_eq!(pin!(future).poll(&mut context), Poll::Ready(()), "it waits for what does not come");
}

#[test]
fn the_model_keeps_the_contract() {
    for (name, law) in contract::LAWS {
        let broker = ModelBroker(Mutex::default());
        println!("{name}");
        run(law(&broker));
    }
    let broker = ModelBroker(Mutex::default());
    let lose = broker.on(|model| {
        for log in model.logs.values_mut() {
            *log = Log::new(Epoch::new(log.epoch.as_u64() + 1000), 1);
        }
    });
    run(contract::a_lost_log_is_a_new_epoch(&broker, lose));
}
