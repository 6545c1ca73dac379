//! A batch: messages that were given their offsets, from the moment they are encoded until they are shown or taken back.

use std::sync::Arc;

use tidegate_core::broker::{BrokerError, Published, Sequence};
use tidegate_core::{Body, ChannelKind, Publication};

use super::channel::Channel;
use super::files::Place;
use super::queue::Answer;
use super::record::{Record, RecordKind};
use super::shared::Shared;
use super::stats::EmbeddedStats;
use super::terms::Terms;

/// So many answers go out together: a publisher of many messages finds them all when it wakes for the first, and many publishers of
/// one message each are on their way again before the whole batch is shown.
const ANSWERED_TOGETHER: usize = 64;

/// A message that was given its offset and is in the batch.
pub(super) struct Given {
    pub(super) channel: Arc<Channel>,
    pub(super) terms: Terms,
    pub(super) publication: Arc<Publication>,
    pub(super) id: Option<u128>,
    pub(super) sequence: Option<Arc<Sequence>>,
    pub(super) time_ms: u64,
    pub(super) place: Place,
    pub(super) link: u64,
    pub(super) answer: Answer,
}

/// A repeat of a message that nobody may see yet, and its answer once somebody may.
pub(super) struct Repeat {
    pub(super) answer: Answer,
    pub(super) published: Published,
    pub(super) sequence: Option<Arc<Sequence>>,
}

/// What is written with one sync.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) given: Vec<Given>,
    pub(super) repeats: Vec<Repeat>,
    pub(super) records: usize,
}

impl Batch {
    /// It is synced: makes everything in it visible, in order, and answers.
    pub(super) fn show(self, shared: &Shared) {
        let messages = self.given.len();
        EmbeddedStats::count(&shared.stats.appends, messages as u64);
        let mut shown = Vec::with_capacity(messages.min(ANSWERED_TOGETHER));
        for Given { channel, terms, publication, time_ms, place, link, answer, .. } in self.given {
            let written = record(&terms, &publication, time_ms, link);
            shared.commit(&channel, &terms, &publication, time_ms, Some((place, written)));
            shown.push((answer, Published { position: publication.position, duplicate: false }));
            if shown.len() == ANSWERED_TOGETHER {
                answer_all(&mut shown);
            }
        }
        answer_all(&mut shown);
        for Repeat { answer, published, .. } in self.repeats {
            answer.send(Ok(published)).ok();
        }
        shared.make_room(messages);
    }

    /// Nothing in it counts: offsets and ids are free again. What was given before it must have been shown.
    pub(super) fn take_back(self, shared: &Shared, error: &BrokerError) {
        for given in self.given.into_iter().rev() {
            let mut state = given.channel.state.lock();
            state.take_back(given.id);
            shared.memory.settle(&mut state);
            drop(state);
            refuse(given.answer, given.sequence.as_ref(), error);
        }
        for Repeat { answer, sequence, .. } in self.repeats {
            refuse(answer, sequence.as_ref(), error);
        }
    }
}

fn answer_all(shown: &mut Vec<(Answer, Published)>) {
    for (answer, published) in shown.drain(..) {
        answer.send(Ok(published)).ok();
    }
}

/// Answers that it was not stored. Nothing of its sequence may follow.
pub(super) fn refuse(answer: Answer, sequence: Option<&Arc<Sequence>>, error: &BrokerError) {
    if let Some(sequence) = sequence {
        sequence.break_off();
    }
    answer.send(Err(error.clone())).ok();
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
        key: publication.key.as_deref(),
        data,
    }
}
