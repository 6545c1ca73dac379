//! A batch: messages that were given their offsets, from the moment they are encoded until they are shown or taken back.

use std::sync::Arc;

use tidegate_core::broker::{BrokerError, Published, Sequence};
use tidegate_core::{Body, ChannelKind, MessageId, Publication};
use tokio::sync::oneshot;

use super::channel::Channel;
use super::files::Place;
use super::record::{Record, RecordKind};
use super::request::{Outcome, Request};
use super::shared::{Durable, Shared};
use super::stats::EmbeddedStats;
use super::terms::Terms;

/// So many messages are shown together, those of a channel in one go, and answered then: a publisher of many finds all its answers
/// when it wakes for the first, and many publishers of one message each are on their way again before the whole batch is shown.
const SHOWN_TOGETHER: usize = 128;

/// A message that was given its offset and is in the batch.
pub(super) struct Given {
    pub(super) channel: Arc<Channel>,
    pub(super) terms: Terms,
    pub(super) publication: Arc<Publication>,
    pub(super) id: Option<u128>,
    pub(super) time_ms: u64,
    pub(super) place: Place,
    pub(super) link: u64,
}

/// What a publish will be answered.
pub(super) enum Fate {
    /// Whatever becomes of the batch.
    Known(Outcome),
    /// Once the batch is synced. A repeat of a message that nobody may see yet is among them.
    Written(Published),
}

/// The answer to a request.
pub(super) enum Answer {
    One(Fate, oneshot::Sender<Outcome>),
    All(Vec<Fate>, Arc<Sequence>, oneshot::Sender<Vec<Outcome>>),
}

/// What is written with one sync.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) given: Vec<Given>,
    pub(super) records: usize,
    /// Each with the number of messages that must have been shown before.
    answers: Vec<(usize, Answer)>,
}

impl Batch {
    pub(super) fn for_requests(requests: &[Request]) -> Self {
        let messages = requests.iter().map(|request| request.messages().len()).sum();
        Self { given: Vec::with_capacity(messages), records: 0, answers: Vec::with_capacity(requests.len()) }
    }

    /// Answers as soon as it may.
    pub(super) fn answer(&mut self, answer: Answer) {
        if answer.is_known() { answer.send() } else { self.answers.push((self.given.len(), answer)) }
    }

    /// It is synced: makes everything in it visible, in each channel's order, and answers.
    pub(super) fn show(self, shared: &Shared) {
        EmbeddedStats::count(&shared.stats.appends, self.given.len() as u64);
        let mut answers = self.answers.into_iter().peekable();
        let (mut shown, mut together) = (0, Vec::new());
        for some in self.given.chunks(SHOWN_TOGETHER) {
            together.clear();
            together.extend(some);
            // The sort keeps the order of those that are of one channel.
            together.sort_by_key(|given| Arc::as_ptr(&given.channel));
            for run in together.chunk_by(|one, next| Arc::ptr_eq(&one.channel, &next.channel)) {
                shared.commit(&run[0].channel, run.iter().map(|given| given.durable()));
            }
            shown += some.len();
            while let Some((_, answer)) = answers.next_if(|&(after, _)| after <= shown) {
                answer.send();
            }
        }
        answers.for_each(|(_, answer)| answer.send());
        shared.make_room(shown);
    }

    /// Nothing in it counts: offsets and ids are free again. What was given before it must have been shown.
    pub(super) fn take_back(self, shared: &Shared, error: &BrokerError) {
        for given in self.given.into_iter().rev() {
            let mut state = given.channel.state.lock();
            state.take_back(given.id);
            shared.memory.settle(&mut state);
        }
        self.answers.into_iter().for_each(|(_, answer)| answer.refuse(error));
    }
}

impl Given {
    fn durable(&self) -> Durable<'_> {
        let Self { terms, publication, time_ms, place, link, .. } = self;
        Durable { terms, publication, time_ms: *time_ms, written: Some((*place, record(terms, publication, *time_ms, *link))) }
    }
}

impl Answer {
    fn is_known(&self) -> bool {
        let is_known = |fate: &Fate| matches!(fate, Fate::Known(_));
        match self {
            Self::One(fate, _) => is_known(fate),
            Self::All(fates, ..) => fates.iter().all(is_known),
        }
    }

    /// Whoever waits may have given up.
    fn send(self) {
        match self {
            Self::One(fate, answer) => drop(answer.send(fate.fulfilled())),
            Self::All(fates, _, answer) => drop(answer.send(fates.into_iter().map(Fate::fulfilled).collect())),
        }
    }

    /// Answers that what was to be written was not. Nothing of its sequence may follow.
    fn refuse(self, error: &BrokerError) {
        match self {
            Self::One(fate, answer) => drop(answer.send(fate.refused(error))),
            Self::All(fates, sequence, answer) => {
                sequence.break_off();
                drop(answer.send(fates.into_iter().map(|fate| fate.refused(error)).collect()));
            }
        }
    }
}

impl Fate {
    fn fulfilled(self) -> Outcome {
        match self {
            Self::Known(outcome) => outcome,
            Self::Written(published) => Ok(published),
        }
    }

    fn refused(self, error: &BrokerError) -> Outcome {
        match self {
            Self::Known(outcome) => outcome,
            Self::Written(_) => Err(error.clone()),
        }
    }
}

/// A message as its record.
pub(super) fn record<'a>(terms: &Terms, publication: &'a Publication, time_ms: u64, link: u64) -> Record<'a> {
    let (kind, data): (_, &[u8]) = match &publication.body {
        Body::Deleted => (RecordKind::Deletion, &[]),
        Body::Data(data) if terms.kind == ChannelKind::State => (RecordKind::Value, data),
        Body::Data(data) => (RecordKind::Log, data),
    };
    Record {
        kind,
        moved: false,
        keep_s: u32::try_from(terms.retention.age.as_secs()).unwrap_or(u32::MAX),
        epoch: publication.position.map_or(0, |position| position.epoch.as_u64()),
        offset: publication.offset(),
        time_ms,
        link,
        channel: publication.channel.as_str(),
        id: publication.id.as_deref(),
        drawn: publication.id.as_ref().is_some_and(MessageId::is_drawn),
        key: publication.key.as_deref(),
        data,
    }
}
