//! Reading messages back from the log on disk. Blocks: not for async threads.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use tidegate_core::{Body, ChannelName, Epoch, Position, Publication};

use super::files::{Place, Reader, damaged};
use super::groups::GROUP;
use super::log::Stretch;
use super::record::{Record, RecordKind};

/// Where the wanted records of a stretch are, in the order of their offsets, none missing.
pub(super) fn places(reader: &mut Reader, stretch: &Stretch) -> io::Result<Vec<Place>> {
    let Stretch { group, from, to } = *stretch;
    let mut found = Vec::with_capacity(GROUP as usize);
    let mut place = group.run;
    // A run that is wholly before what is kept may be in a segment that is gone.
    while from <= group.run_last && place.at < group.run.at + group.run_len {
        let record = reader.record(place)?;
        if (from..=to).contains(&record.offset) && record.offset <= group.run_last {
            found.push(place);
        }
        place = place.plus(record.len() as u32);
    }
    let run = found.len();
    // Offsets are dense, so it is known which record is the last to be read. The one before may be in a segment that is gone.
    let end = from.max(group.run_last + 1);
    let (mut place, mut steps) = (group.head, 0);
    while !place.is_nowhere() && steps < GROUP {
        let record = reader.record(place)?;
        if (end..=to).contains(&record.offset) {
            found.push(place);
        }
        place = if record.offset <= end { Place::NOWHERE } else { Place::from_u64(record.link) };
        steps += 1;
    }
    found[run..].reverse();
    if found.len() as u64 != to + 1 - from {
        return Err(damaged(group.head));
    }
    Ok(found)
}

/// The messages of a stretch with their times.
pub(super) fn stretch(reader: &mut Reader, channel: &ChannelName, stretch: &Stretch) -> io::Result<Vec<(Arc<Publication>, u64)>> {
    let places = places(reader, stretch)?.into_iter().zip(stretch.from..);
    places
        .map(|(place, offset)| {
            let (publication, time_ms) = message(reader, channel, offset, place)?;
            Ok((Arc::new(publication), time_ms))
        })
        .collect()
}

/// The message at this place, which must be this one.
pub(super) fn message(reader: &mut Reader, channel: &ChannelName, offset: u64, place: Place) -> io::Result<(Publication, u64)> {
    let record = reader.record(place)?;
    if record.offset != offset || record.channel != channel.as_str() {
        return Err(damaged(place));
    }
    Ok((publication(channel, &record), record.time_ms))
}

fn publication(channel: &ChannelName, record: &Record<'_>) -> Publication {
    let position = Position { epoch: Epoch::new(record.epoch), offset: record.offset };
    let body = match record.kind {
        RecordKind::Deletion => Body::Deleted,
        RecordKind::Log | RecordKind::Value | RecordKind::Top | RecordKind::Generation => Body::Data(Bytes::copy_from_slice(record.data)),
    };
    Publication::new(channel.clone(), Some(position), record.id.map(Into::into), record.key.map(Into::into), body)
}
