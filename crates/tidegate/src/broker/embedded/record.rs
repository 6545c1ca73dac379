//! The bytes of the log: a segment is a header and batches, a batch is a header and records, a record is a message.
//!
//! All numbers are little endian. A batch is written with one write and synced before anything in it is acknowledged, so what a crash
//! leaves of the last one is not needed and is cut off; nor is one needed that was written while the one before it was still on its
//! way to the disk, if that did not arrive. Each record has a checksum of its own because pages are read record by record.

/// Size of a segment's header: magic, version, number, log, generation, checksum.
pub(super) const SEGMENT_HEADER: usize = 36;
/// Size of a batch's header: magic with a flag, sequence, bytes, records, checksum.
pub(super) const BATCH_HEADER: usize = 24;
/// Size of a record without its texts and data.
const RECORD_FIXED: usize = 8 + RECORD_BODY;
const RECORD_BODY: usize = 44;
/// The largest record, far above any message limit; what claims to be larger is damage.
pub(super) const RECORD_MAX: usize = 32 * 1024 * 1024;

const SEGMENT_MAGIC: &[u8; 8] = b"tidelog1";
const BATCH_MAGIC: &[u8; 3] = b"tgB";
/// The fourth byte of a batch that was begun when all before it had been synced.
const ALONE: u8 = 1;
/// The same while one was under way.
const OVERLAPPING: u8 = 2;

/// The first bytes of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    /// Numbers rise by one from segment to segment.
    pub(super) number: u32,
    /// The random number that was drawn when the log began: epochs are made from it.
    pub(super) log: u64,
    /// How often a channel had been forgotten when the segment was begun; channels that begin afterwards have another epoch.
    pub(super) generation: u64,
}

impl SegmentHeader {
    pub(super) fn encode(&self) -> [u8; SEGMENT_HEADER] {
        let mut bytes = [0; SEGMENT_HEADER];
        bytes[..8].copy_from_slice(SEGMENT_MAGIC);
        bytes[8..12].copy_from_slice(&self.number.to_le_bytes());
        bytes[12..20].copy_from_slice(&self.log.to_le_bytes());
        bytes[20..28].copy_from_slice(&self.generation.to_le_bytes());
        // Four bytes are kept free for flags.
        let sum = crc32fast::hash(&bytes[..32]);
        bytes[32..].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        if bytes.len() < SEGMENT_HEADER || &bytes[..8] != SEGMENT_MAGIC || crc32fast::hash(&bytes[..32]) != u32_at(bytes, 32) {
            return None;
        }
        Some(Self { number: u32_at(bytes, 8), log: u64_at(bytes, 12), generation: u64_at(bytes, 20) })
    }
}

/// The first bytes of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BatchHeader {
    /// Numbers rise by one from batch to batch.
    pub(super) sequence: u64,
    /// It was written while the batch before it was not known to be synced.
    pub(super) overlaps: bool,
    /// Bytes of its records.
    pub(super) bytes: u32,
    /// How many they are.
    pub(super) records: u32,
}

impl BatchHeader {
    pub(super) fn encode(&self) -> [u8; BATCH_HEADER] {
        let mut bytes = [0; BATCH_HEADER];
        bytes[..3].copy_from_slice(BATCH_MAGIC);
        bytes[3] = if self.overlaps { OVERLAPPING } else { ALONE };
        bytes[4..12].copy_from_slice(&self.sequence.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.bytes.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.records.to_le_bytes());
        let sum = crc32fast::hash(&bytes[..20]);
        bytes[20..].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        if bytes.len() < BATCH_HEADER || &bytes[..3] != BATCH_MAGIC || crc32fast::hash(&bytes[..20]) != u32_at(bytes, 20) {
            return None;
        }
        let overlaps = match bytes[3] {
            ALONE => false,
            OVERLAPPING => true,
            _ => return None,
        };
        Some(Self { sequence: u64_at(bytes, 4), overlaps, bytes: u32_at(bytes, 12), records: u32_at(bytes, 16) })
    }

    /// Whether it could only be begun when this earlier batch had been synced. No more than two are under way at once.
    pub(super) const fn proves(&self, earlier: u64) -> bool {
        self.sequence > earlier + self.overlaps as u64
    }

    /// Where in these bytes the next thing that is a batch header for sure begins.
    pub(super) fn find(bytes: &[u8]) -> Option<(usize, Self)> {
        let mut from = 0;
        while let Some(found) = bytes.get(from..)?.windows(BATCH_MAGIC.len()).position(|window| window == BATCH_MAGIC) {
            if let Some(header) = Self::decode(&bytes[from + found..]) {
                return Some((from + found, header));
            }
            from += found + 1;
        }
        None
    }
}

/// What a record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RecordKind {
    /// A message of a `log` channel. `link` is where the message before it is, if that is in its group.
    Log,
    /// A `state` key's value. `link` is the offset up to which deletions are no longer kept, as in the next two.
    Value,
    /// A `state` key is gone.
    Deletion,
    /// The channel's last offset, when no message says it any more.
    Top,
    /// `offset` is the number of channels forgotten so far.
    Generation,
}

impl RecordKind {
    const ALL: [Self; 5] = [Self::Log, Self::Value, Self::Deletion, Self::Top, Self::Generation];
}

/// A message as it is in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record<'a> {
    pub(super) kind: RecordKind,
    /// Written once more because its segment was to go.
    pub(super) moved: bool,
    /// The age in seconds that the channel's rule kept messages for: what holds until the rule is seen again.
    pub(super) keep_s: u32,
    pub(super) epoch: u64,
    pub(super) offset: u64,
    pub(super) time_ms: u64,
    pub(super) link: u64,
    pub(super) channel: &'a str,
    pub(super) id: Option<&'a str>,
    /// The id is no publisher's: nobody is to find the message by it.
    pub(super) drawn: bool,
    pub(super) key: Option<&'a str>,
    pub(super) data: &'a [u8],
}

const MOVED: u8 = 1;
const HAS_ID: u8 = 2;
const HAS_KEY: u8 = 4;
const DRAWN: u8 = 8;

impl<'a> Record<'a> {
    /// What it takes in the log.
    pub(super) fn len(&self) -> usize {
        RECORD_FIXED + self.channel.len() + self.id.map_or(0, str::len) + self.key.map_or(0, str::len) + self.data.len()
    }

    /// Bytes of id, key and data: what retention counts.
    pub(super) fn payload(&self) -> u32 {
        u32::try_from(self.id.map_or(0, str::len) + self.key.map_or(0, str::len) + self.data.len()).unwrap_or(u32::MAX)
    }

    /// Appends it. Texts are at most 65,535 bytes, the channel's name 255, the whole [`RECORD_MAX`]: the caller has checked.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        let flag = |is_set, flag| if is_set { flag } else { 0 };
        let flags = flag(self.moved, MOVED) | flag(self.id.is_some(), HAS_ID) | flag(self.key.is_some(), HAS_KEY) | flag(self.drawn, DRAWN);
        let mut fixed = [0; RECORD_FIXED];
        fixed[..4].copy_from_slice(&((self.len() - 8) as u32).to_le_bytes());
        fixed[8..12].copy_from_slice(&[self.kind as u8, flags, self.channel.len() as u8, 0]);
        fixed[12..14].copy_from_slice(&(self.id.map_or(0, str::len) as u16).to_le_bytes());
        fixed[14..16].copy_from_slice(&(self.key.map_or(0, str::len) as u16).to_le_bytes());
        fixed[16..20].copy_from_slice(&self.keep_s.to_le_bytes());
        fixed[20..28].copy_from_slice(&self.epoch.to_le_bytes());
        fixed[28..36].copy_from_slice(&self.offset.to_le_bytes());
        fixed[36..44].copy_from_slice(&self.time_ms.to_le_bytes());
        fixed[44..].copy_from_slice(&self.link.to_le_bytes());
        out.extend_from_slice(&fixed);
        out.extend_from_slice(self.channel.as_bytes());
        out.extend_from_slice(self.id.unwrap_or("").as_bytes());
        out.extend_from_slice(self.key.unwrap_or("").as_bytes());
        out.extend_from_slice(self.data);
        let sum = crc32fast::hash(&out[start + 8..]);
        out[start + 4..start + 8].copy_from_slice(&sum.to_le_bytes());
    }

    /// The length that a record says it has, from its first four bytes.
    pub(super) fn claimed_len(bytes: &[u8]) -> Option<usize> {
        let len = usize::try_from(u32_at(bytes.get(..4)?, 0)).ok()?.checked_add(8)?;
        (RECORD_FIXED..=RECORD_MAX).contains(&len).then_some(len)
    }

    /// Reads the record at the start of these bytes; `None` if there is no whole and sound one.
    pub(super) fn decode(bytes: &'a [u8]) -> Option<Self> {
        let body = bytes.get(8..Self::claimed_len(bytes)?)?;
        if crc32fast::hash(body) != u32_at(bytes, 4) {
            return None;
        }
        let (kind, flags, name_len) = (*RecordKind::ALL.get(usize::from(body[0]))?, body[1], usize::from(body[2]));
        let (id_len, key_len) = (usize::from(u16_at(body, 4)), usize::from(u16_at(body, 6)));
        let rest = &body[RECORD_BODY..];
        let (channel, rest) = rest.split_at_checked(name_len)?;
        let (id, rest) = rest.split_at_checked(id_len)?;
        let (key, data) = rest.split_at_checked(key_len)?;
        let text = |flag, bytes| if flags & flag == 0 { Some(None) } else { std::str::from_utf8(bytes).ok().map(Some) };
        Some(Self {
            kind,
            moved: flags & MOVED != 0,
            keep_s: u32_at(body, 8),
            epoch: u64_at(body, 12),
            offset: u64_at(body, 20),
            time_ms: u64_at(body, 28),
            link: u64_at(body, 36),
            channel: std::str::from_utf8(channel).ok()?,
            id: text(HAS_ID, id)?,
            drawn: flags & DRAWN != 0,
            key: text(HAS_KEY, key)?,
            data,
        })
    }
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut number = [0; 4];
    number.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(number)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut number = [0; 8];
    number.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(number)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_record_survives_and_any_flipped_bit_is_seen(
            (kind, moved, drawn, numbers) in (0usize..5, any::<bool>(), any::<bool>(), any::<[u64; 4]>()),
            channel in "[a-z:]{1,255}", id in proptest::option::of(".{0,40}"), key in proptest::option::of(".{0,40}"),
            data in proptest::collection::vec(any::<u8>(), 0..300), flip in any::<proptest::sample::Index>(), bit in 0u8..8,
        ) {
            let [epoch, offset, time_ms, link] = numbers;
            let record = Record {
                kind: RecordKind::ALL[kind], moved, keep_s: 77, epoch, offset, time_ms, link,
                channel: &channel, id: id.as_deref(), drawn, key: key.as_deref(), data: &data,
            };
            let mut bytes = Vec::new();
            record.encode(&mut bytes);
            prop_assert_eq!(bytes.len(), record.len());
            prop_assert_eq!(Record::decode(&bytes), Some(record));
            prop_assert_eq!(Record::decode(&bytes[..bytes.len() - 1]), None);
            let at = flip.index(bytes.len());
            bytes[at] ^= 1 << bit;
            prop_assert_eq!(Record::decode(&bytes), None);
        }
    }

    #[test]
    fn headers_survive_and_are_found() {
        let segment = SegmentHeader { number: 3, log: 9, generation: 4 };
        assert_eq!(SegmentHeader::decode(&segment.encode()), Some(segment));
        let batch = BatchHeader { sequence: 8, overlaps: true, bytes: 100, records: 2 };
        let mut bytes = b"tgB\x01 not quite, tg".to_vec();
        let at = bytes.len();
        bytes.extend_from_slice(&batch.encode());
        assert_eq!(BatchHeader::find(&bytes), Some((at, batch)));
        bytes[at + 5] ^= 1;
        assert_eq!(BatchHeader::find(&bytes), None);
    }
}
