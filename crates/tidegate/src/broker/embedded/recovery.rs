//! Opening the log: every segment is read from its first byte, every record handed on, and the torn end of the last one cut off.
//!
//! There is no second file that says what is in a segment: it could be older than the segment, and everything would have to be read
//! to know. A thread reads the next segment while one is taken in, each record is checked once, and so it goes as fast as memory.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;

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
    let mut paths = segments(directory).map_err(OpenError::io(directory))?;
    drop_unborn(&mut paths)?;
    if let Some(gap) = paths.windows(2).find(|pair| pair[0].0 + 1 != pair[1].0) {
        return Err(damaged(&gap[1].1, 0, "the file before it is missing"));
    }
    let mut scan = Scan::default();
    let mut found_files = Found::default();
    thread::scope(|scope| {
        // Without a place in between: two segments are in memory, the one that is taken in and the one that is read.
        let (read, contents) = sync_channel(0);
        let in_order = &paths;
        scope.spawn(move || in_order.iter().all(|(_, path)| read.send(fs::read(path)).is_ok()));
        found_files.take_in(&paths, &contents, &mut scan, &mut found)
    })?;
    let Found { files, active, disk_bytes } = found_files;
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

/// What the directory holds.
#[derive(Default)]
struct Found {
    files: Files,
    active: Option<Active>,
    disk_bytes: u64,
}

impl Found {
    fn take_in(
        &mut self,
        paths: &[(u32, PathBuf)],
        contents: &Receiver<io::Result<Vec<u8>>>,
        scan: &mut Scan,
        found: &mut impl FnMut(Place, &Record<'_>),
    ) -> Result<(), OpenError> {
        for (index, (number, path)) in paths.iter().enumerate() {
            let bytes = contents.recv().map_err(io::Error::other).flatten().map_err(OpenError::io(path))?;
            let len = scan.segment(path, *number, &bytes, index + 1 == paths.len(), found)?;
            let file = OpenOptions::new().read(true).write(true).open(path).map_err(OpenError::io(path))?;
            if (len as usize) < bytes.len() {
                file.set_len(u64::from(len)).map_err(OpenError::io(path))?;
            }
            if index + 1 == paths.len() {
                // A process that was killed may have written more than it synced: it is on the disk before anybody sees it, before a
                // repeat of it is acknowledged, and before a batch says that all before it is.
                file.sync_all().map_err(OpenError::io(path))?;
            }
            let file = Arc::new(file);
            self.disk_bytes += u64::from(len);
            self.files.0.insert(*number, file.clone());
            let again = Arc::new(File::open(path).map_err(OpenError::io(path))?);
            self.active = Some(Active { number: *number, files: [file, again], len, torn: false });
        }
        Ok(())
    }
}

/// A crash while a segment was begun leaves it without its header, and nothing was in it then.
fn drop_unborn(paths: &mut Vec<(u32, PathBuf)>) -> Result<(), OpenError> {
    let Some((_, path)) = paths.last() else { return Ok(()) };
    if fs::metadata(path).map_err(OpenError::io(path))?.len() > SEGMENT_HEADER as u64 {
        return Ok(());
    }
    let bytes = fs::read(path).map_err(OpenError::io(path))?;
    if SegmentHeader::decode(&bytes).is_none() {
        fs::remove_file(path).map_err(OpenError::io(path))?;
        paths.pop();
    }
    Ok(())
}

fn damaged(file: &Path, at: usize, problem: &'static str) -> OpenError {
    OpenError::Damaged { file: file.to_owned(), at: at as u64, problem }
}

#[derive(Default)]
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
        let (mut at, mut records) = (SEGMENT_HEADER, Vec::new());
        while at < bytes.len() {
            match self.batch(path, at, bytes, &mut records)? {
                Some(len) => {
                    self.hand_on(Place { segment: number, at: (at + BATCH_HEADER) as u32 }, &records, found);
                    at += BATCH_HEADER + len;
                }
                None if last && !self.was_synced(number, &bytes[at + 1..]) => break,
                None => return Err(damaged(path, at, "a batch that had been synced is broken")),
            }
        }
        u32::try_from(at).map_err(|_| damaged(path, at, "it is larger than a segment can be"))
    }

    /// Reads the records of the batch at this place and gives their length, if it is whole and sound.
    fn batch<'b>(&mut self, path: &Path, at: usize, bytes: &'b [u8], records: &mut Vec<Record<'b>>) -> Result<Option<usize>, OpenError> {
        records.clear();
        let Some(header) = BatchHeader::decode(&bytes[at..]) else { return Ok(None) };
        if self.sequence.is_some_and(|last| header.sequence != last + 1) {
            return Err(damaged(path, at, "a batch is missing before it"));
        }
        let start = at + BATCH_HEADER;
        let Some(batch) = bytes.get(start..start + header.bytes as usize) else { return Ok(None) };
        let mut rest = batch;
        while !rest.is_empty() {
            let Some(record) = Record::decode(rest) else { return Ok(None) };
            rest = &rest[record.len()..];
            records.push(record);
        }
        if records.len() as u64 != u64::from(header.records) {
            return Ok(None);
        }
        self.sequence = Some(header.sequence);
        Ok(Some(batch.len()))
    }

    fn hand_on(&mut self, mut place: Place, records: &[Record<'_>], found: &mut impl FnMut(Place, &Record<'_>)) {
        for record in records {
            if record.kind == RecordKind::Generation {
                self.generation = self.generation.max(record.offset);
            }
            found(place, record);
            place = place.plus(record.len() as u32);
        }
    }

    /// Whether a broken batch had been synced: then a later one proves it.
    fn was_synced(&self, segment: u32, after: &[u8]) -> bool {
        let mut broken = self.sequence.or((segment == 1).then_some(0)).map(|last| last + 1);
        let mut rest = after;
        while let Some((at, header)) = BatchHeader::find(rest) {
            // With no batch before it, what its number was shows in the first one behind it.
            if header.proves(*broken.get_or_insert(header.sequence.saturating_sub(1))) {
                return true;
            }
            rest = &rest[at + 1..];
        }
        false
    }
}
