//! What a session asks of the broker and says to its client about channels, in short.

use std::sync::Arc;

use tidegate_core::broker::{HistoryError, Page};
use tidegate_core::message::{Recovery, ServerMessage, Since};
use tidegate_core::session::{Input, Output, SubscriptionId, Transmit};
use tidegate_core::{ChannelKind, Position, Publication};

use crate::bench::{Bench, at, name, publication};

pub(crate) fn subscribed(kind: ChannelKind, channel: &str, position: Option<Position>, recovery: Recovery) -> ServerMessage {
    ServerMessage::Subscribed { id: 1, channel: name(channel), kind, position, recovery }
}

pub(crate) fn live(channel: &str, offset: Option<u64>) -> ServerMessage {
    ServerMessage::Live { channel: name(channel), offset }
}

pub(crate) fn log(offset: u64) -> Arc<Publication> {
    publication("log:a", Some(at(offset)), None, offset, 1)
}

pub(crate) fn entry(key: &str, offset: u64) -> Arc<Publication> {
    publication("state:a", Some(at(offset)), Some(key), offset, 1)
}

pub(crate) fn page(start: u64, messages: &[Arc<Publication>], top: u64, more: bool) -> Result<Page, HistoryError> {
    Ok(Page { start: at(start), messages: messages.to_vec(), top: at(top), more })
}

/// The one fetch among the outputs.
pub(crate) fn fetch(bench: &mut Bench) -> Option<(Since, usize)> {
    bench.outputs().into_iter().find_map(|output| match output {
        Output::Fetch { since, limit, .. } => Some((since, limit.messages)),
        _ => None,
    })
}

pub(crate) fn snapshots(bench: &mut Bench) -> usize {
    bench.outputs().iter().filter(|output| matches!(output, Output::Snapshot { .. })).count()
}

/// What was written, in short: offsets of messages, names of the rest.
pub(crate) fn written(bench: &mut Bench) -> Vec<String> {
    let word = |transmit| match transmit {
        Transmit::Publication(publication) => publication.offset().to_string(),
        Transmit::Message(message) => match *message {
            ServerMessage::Subscribed { recovery, .. } => format!("subscribed {}", recovery.name()),
            ServerMessage::Live { offset, .. } => offset.map_or("live".into(), |offset| format!("live {offset}")),
            ServerMessage::Gap(gap) => match (gap.missed, gap.range) {
                (_, Some((from, to))) => format!("{} {from}-{to}", gap.reason.name()),
                (missed, None) => format!("{} {}", gap.reason.name(), missed.map_or("?".into(), |missed| missed.to_string())),
            },
            ServerMessage::Snapshot { entries, position, more, .. } => {
                format!("snapshot {} of {}{}", entries.len(), position.offset, if more { " …" } else { "" })
            }
            ServerMessage::Unsubscribed { code, .. } => format!("unsubscribed {}", code.name()),
            other => format!("{other:?}"),
        },
        other => format!("{other:?}"),
    };
    bench.write().into_iter().map(word).collect()
}

pub(crate) fn behind(bench: &mut Bench, channel: &str, since: Option<Since>, top: u64) -> SubscriptionId {
    bench.write();
    let subscription = bench.subscribe(1, channel, since);
    bench.handle(Input::Attached(subscription, Ok(Some(at(top)))));
    subscription
}
