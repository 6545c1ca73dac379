//! Opening the log: every segment is read from its first byte, every record handed on, and the torn end of the last one cut off.

use std::fs::{self, File, OpenOptions};
use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;

use super::files::{Files, Place};
use super::record::{BATCH_HEADER, BatchHeader, Record, RecordKind, SEGMENT_HEADER, SegmentHeader};
use super::settings::OpenError;
use super::stats::EmbeddedStats;
use super::store::{Active, Store, lock, segments};

/// Opens the log in this directory, or begins one whose random number is `fresh`. `found` sees every record in the order of the log.
/// Gives the store and the highest generation met.
///
/// # Errors
/// Says which file can't be opened, or is damaged before its end.
pub(super) fn open(
    directory: &Path,
    fresh: u64,
    segment_bytes: u32,
    stats: Arc<EmbeddedStats>,
    mut found: impl FnMut(Place, &Record<'_>),
) -> Result<(Store, u64), OpenError> {
    fs::create_dir_all(directory).map_err(OpenError::io(directory))?;
    let lock = lock(directory)?;
    let mut scan = Scan { log: None, sequence: None, generation: 0 };
    let (mut files, mut active, mut disk_bytes) = (Files::default(), None, 0);
    let mut paths = segments(directory).map_err(OpenError::io(directory))?;
    drop_unborn(&mut paths)?;
    for (index, (number, path)) in paths.iter().enumerate() {
        if index > 0 && paths[index - 1].0 + 1 != *number {
            return Err(damaged(path, 0, "the file before it is missing"));
        }
        let bytes = fs::read(path).map_err(OpenError::io(path))?;
        let len = scan.segment(path, *number, &bytes, index + 1 == paths.len(), &mut found)?;
        let file = OpenOptions::new().read(true).write(true).open(path).map_err(OpenError::io(path))?;
        if (len as usize) < bytes.len() {
            cut(&file, len).map_err(OpenError::io(path))?;
        }
        let file = Arc::new(file);
        disk_bytes += u64::from(len);
        files.0.insert(*number, file.clone());
        active = Some(Active { number: *number, file, len, torn: false });
    }
    stats.disk_bytes.store(disk_bytes, std::sync::atomic::Ordering::Relaxed);
    let store = Store {
        directory: directory.to_owned(),
        files: Arc::new(ArcSwap::from_pointee(files)),
        stats,
        log: scan.log.unwrap_or(fresh),
        sequence: scan.sequence.map_or(1, |last| last + 1),
        segment_bytes,
        active,
        lock,
    };
    Ok((store, scan.generation))
}

/// A crash while a segment was begun leaves it without its header, and nothing was in it then.
fn drop_unborn(paths: &mut Vec<(u32, std::path::PathBuf)>) -> Result<(), OpenError> {
    let Some((_, path)) = paths.last() else { return Ok(()) };
    let bytes = fs::read(path).map_err(OpenError::io(path))?;
    if bytes.len() <= SEGMENT_HEADER && SegmentHeader::decode(&bytes).is_none() {
        fs::remove_file(path).map_err(OpenError::io(path))?;
        paths.pop();
    }
    Ok(())
}

fn cut(file: &File, len: u32) -> std::io::Result<()> {
    file.set_len(u64::from(len))?;
    file.sync_all()
}

fn damaged(file: &Path, at: usize, problem: &'static str) -> OpenError {
    OpenError::Damaged { file: file.to_owned(), at: at as u64, problem }
}

struct Scan {
    log: Option<u64>,
    sequence: Option<u64>,
    generation: u64,
}

impl Scan {
    /// Reads a segment and gives the length of its sound part.
    fn segment(
        &mut self,
        path: &Path,
        number: u32,
        bytes: &[u8],
        last: bool,
        found: &mut impl FnMut(Place, &Record<'_>),
    ) -> Result<u32, OpenError> {
        let header = SegmentHeader::decode(bytes).ok_or_else(|| damaged(path, 0, "its header is not one"))?;
        if header.number != number {
            return Err(damaged(path, 0, "it was another file of the log"));
        }
        if *self.log.get_or_insert(header.log) != header.log {
            return Err(damaged(path, 0, "it belongs to another log"));
        }
        self.generation = self.generation.max(header.generation);
        let mut at = SEGMENT_HEADER;
        while at < bytes.len() {
            match self.batch(path, at, bytes)? {
                Some(batch) => {
                    self.records(Place { segment: number, at: (at + BATCH_HEADER) as u32 }, batch, found);
                    at += BATCH_HEADER + batch.len();
                }
                None if last && !self.was_synced(&bytes[at + 1..]) => break,
                None => return Err(damaged(path, at, "a batch that had been synced is broken")),
            }
        }
        u32::try_from(at).map_err(|_| damaged(path, at, "it is larger than a segment can be"))
    }

    /// The records' bytes of the batch at this place, if it is whole and sound.
    fn batch<'b>(&mut self, path: &Path, at: usize, bytes: &'b [u8]) -> Result<Option<&'b [u8]>, OpenError> {
        let Some(header) = BatchHeader::decode(&bytes[at..]) else { return Ok(None) };
        if self.sequence.is_some_and(|last| header.sequence != last + 1) {
            return Err(damaged(path, at, "a batch is missing before it"));
        }
        let start = at + BATCH_HEADER;
        let Some(records) = bytes.get(start..start + header.bytes as usize) else { return Ok(None) };
        let (mut rest, mut count) = (records, 0);
        while !rest.is_empty() {
            let Some(record) = Record::decode(rest) else { return Ok(None) };
            rest = &rest[record.len()..];
            count += 1;
        }
        if count != header.records {
            return Ok(None);
        }
        self.sequence = Some(header.sequence);
        Ok(Some(records))
    }

    fn records(&mut self, mut place: Place, mut bytes: &[u8], found: &mut impl FnMut(Place, &Record<'_>)) {
        while let Some(record) = Record::decode(bytes) {
            if record.kind == RecordKind::Generation {
                self.generation = self.generation.max(record.offset);
            }
            found(place, &record);
            place = place.plus(record.len() as u32);
            bytes = &bytes[record.len()..];
        }
    }

    /// Whether a broken batch had been synced: then a later one was begun after it.
    fn was_synced(&self, after: &[u8]) -> bool {
        let broken = self.sequence.map_or(1, |last| last + 1);
        let mut rest = after;
        while let Some((at, header)) = BatchHeader::find(rest) {
            if header.sequence > broken {
                return true;
            }
            rest = &rest[at + 1..];
        }
        false
    }
}
