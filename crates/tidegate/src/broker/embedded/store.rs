//! The log on disk, its writing side: segments of batches, appended and synced one batch at a time, dropped oldest first.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;

use super::files::{Files, Place};
use super::record::{BATCH_HEADER, BatchHeader, SEGMENT_HEADER, SegmentHeader};
use super::settings::OpenError;
use super::stats::EmbeddedStats;

/// The one that writes.
pub(super) struct Store {
    pub(super) directory: PathBuf,
    /// What readers see; a new set with every segment that comes or goes.
    pub(super) files: Arc<ArcSwap<Files>>,
    pub(super) stats: Arc<EmbeddedStats>,
    /// The log's random number.
    pub(super) log: u64,
    /// Of the next batch.
    pub(super) sequence: u64,
    pub(super) segment_bytes: u32,
    /// The segment that is written; `None` before the first, and after the directory has gone.
    pub(super) active: Option<Active>,
    /// Held as long as the log is open.
    pub(super) lock: File,
}

/// The segment at the end of the log.
pub(super) struct Active {
    pub(super) number: u32,
    /// Opened twice: an error of the disk is reported once to each, and so to every sync that it concerns, though two overlap.
    pub(super) files: [Arc<File>; 2],
    /// Where what was written ends, and the next batch begins.
    pub(super) len: u32,
    /// There may be something after `len`: a write or a sync failed.
    pub(super) torn: bool,
}

/// A batch that was written, and begins to count when it is synced.
pub(super) struct Unsynced {
    /// Only one sync at a time is under way through it.
    file: Arc<File>,
    start: u32,
    sequence: u64,
    pub(super) records: usize,
    pub(super) bytes: usize,
}

impl Unsynced {
    /// Waits for the disk. Gives the time that took.
    pub(super) fn sync(&self) -> io::Result<Duration> {
        let start = Instant::now();
        self.file.sync_data()?;
        Ok(start.elapsed())
    }
}

impl Store {
    /// Makes ready for a batch: repairs what a failed write left, begins a new segment if the last is full, and says where the first
    /// record of the batch will be.
    pub(super) fn prepare(&mut self, generation: u64) -> io::Result<Place> {
        self.repair()?;
        let (number, len) = match &self.active {
            Some(active) if active.len < self.segment_bytes => (active.number, active.len),
            Some(active) => (self.begin(active.number + 1, generation)?, SEGMENT_HEADER as u32),
            None => (self.begin(self.last_number() + 1, generation)?, SEGMENT_HEADER as u32),
        };
        Ok(Place { segment: number, at: len + BATCH_HEADER as u32 })
    }

    /// Cuts off what a failed write or sync left behind the end, which a restart would read. Only while nothing is under way.
    pub(super) fn repair(&mut self) -> io::Result<()> {
        let Some(active) = self.active.as_mut().filter(|active| active.torn) else { return Ok(()) };
        // An error that one of them has not told of yet is about what is cut off now.
        active.files.iter().for_each(|file| drop(file.sync_all()));
        active.files[0].set_len(u64::from(active.len))?;
        active.files.iter().try_for_each(|file| file.sync_all())?;
        active.torn = false;
        Ok(())
    }

    /// Whether there is something to repair.
    pub(super) fn is_torn(&self) -> bool {
        self.active.as_ref().is_some_and(|active| active.torn)
    }

    /// Whether a batch can follow another that is still under way: nothing has to be repaired or begun before it.
    pub(super) fn is_ready(&self) -> bool {
        self.active.as_ref().is_some_and(|active| !active.torn && active.len < self.segment_bytes)
    }

    /// Writes a batch; the room for its header is in front of its records. It counts once it is synced. When this fails, nothing of it does.
    pub(super) fn write(&mut self, batch: &mut [u8], records: usize, overlaps: bool) -> io::Result<Unsynced> {
        let Some(active) = &mut self.active else { return Err(io::Error::other("no segment to append to")) };
        let bytes = u32::try_from(batch.len() - BATCH_HEADER).map_err(io::Error::other)?;
        let header = BatchHeader { sequence: self.sequence, overlaps, bytes, records: records as u32 };
        batch[..BATCH_HEADER].copy_from_slice(&header.encode());
        active.torn = true;
        active.files[0].write_all_at(batch, u64::from(active.len))?;
        active.torn = false;
        let file = active.files[self.sequence as usize % 2].clone();
        let unsynced = Unsynced { file, start: active.len, sequence: self.sequence, records, bytes: batch.len() };
        active.len += batch.len() as u32;
        self.sequence += 1;
        Ok(unsynced)
    }

    /// The end of the log is before this batch again: neither it nor what was written after it counts.
    pub(super) fn take_back(&mut self, first: &Unsynced) {
        if let Some(active) = &mut self.active {
            (active.len, active.torn) = (first.start, true);
        }
        self.sequence = first.sequence;
    }

    /// Whether the file that is written is still in the directory. What goes into a deleted one would be lost.
    pub(super) fn is_there(&self) -> bool {
        self.active.as_ref().is_none_or(|active| active.files[0].metadata().is_ok_and(|metadata| metadata.nlink() > 0))
    }

    /// Begins anew in an empty directory, with a new random number.
    pub(super) fn start_over(&mut self, log: u64) -> io::Result<()> {
        fs::create_dir_all(&self.directory)?;
        if self.lock.metadata()?.nlink() == 0 {
            self.lock = lock(&self.directory).map_err(|error| io::Error::other(error.to_string()))?;
        }
        for (_, path) in segments(&self.directory)? {
            fs::remove_file(path)?;
        }
        self.log = log;
        self.active = None;
        self.sequence = 1;
        self.files.store(Arc::default());
        self.stats.disk_bytes.store(0, Ordering::Relaxed);
        Ok(())
    }

    /// The oldest segment, if it isn't the one that is written.
    pub(super) fn oldest(&self) -> Option<(u32, Arc<File>)> {
        let files = self.files.load();
        let (&number, file) = files.0.first_key_value()?;
        (self.active.as_ref()?.number != number).then(|| (number, file.clone()))
    }

    /// Removes the oldest segment. Readers that have it open may finish.
    pub(super) fn drop_oldest(&mut self, number: u32) -> io::Result<()> {
        let path = segment_path(&self.directory, number);
        let size = fs::metadata(&path).map_or(0, |metadata| metadata.len());
        fs::remove_file(&path)?;
        self.change_files(|files| {
            files.0.remove(&number);
        });
        self.stats.disk_bytes.fetch_sub(size.min(self.stats.disk_bytes.load(Ordering::Relaxed)), Ordering::Relaxed);
        Ok(())
    }

    fn last_number(&self) -> u32 {
        self.files.load().0.last_key_value().map_or(0, |(&number, _)| number)
    }

    fn begin(&mut self, number: u32, generation: u64) -> io::Result<u32> {
        let path = segment_path(&self.directory, number);
        let begun = begin_file(&path, &SegmentHeader { number, log: self.log, generation }).and_then(|file| {
            // The directory too, or a power loss could take the whole file.
            File::open(&self.directory)?.sync_all()?;
            Ok([file, File::open(&path)?])
        });
        let files = match begun {
            Ok(files) => files.map(Arc::new),
            Err(error) => {
                // With a full disk its name would block the next try.
                fs::remove_file(&path).ok();
                return Err(error);
            }
        };
        let to_read = files[0].clone();
        self.active = Some(Active { number, files, len: SEGMENT_HEADER as u32, torn: false });
        self.change_files(|files| {
            files.0.insert(number, to_read);
        });
        EmbeddedStats::count(&self.stats.disk_bytes, SEGMENT_HEADER as u64);
        Ok(number)
    }

    fn change_files(&self, change: impl FnOnce(&mut Files)) {
        let mut files = Files::clone(&self.files.load());
        change(&mut files);
        self.files.store(Arc::new(files));
    }
}

fn begin_file(path: &Path, header: &SegmentHeader) -> io::Result<File> {
    let file = OpenOptions::new().read(true).write(true).create_new(true).open(path)?;
    file.write_all_at(&header.encode(), 0)?;
    file.sync_all()?;
    Ok(file)
}

/// Takes the directory for this process, or says who can't have it. The system gives the lock back when the process ends, however.
pub(super) fn lock(directory: &Path) -> Result<File, OpenError> {
    let path = directory.join("lock");
    let file = OpenOptions::new().write(true).create(true).truncate(false).open(&path).map_err(OpenError::io(&path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => Err(OpenError::Locked { path: directory.to_owned() }),
        Err(fs::TryLockError::Error(error)) => Err(OpenError::Io { path, error }),
    }
}

/// The path of a segment.
pub(super) fn segment_path(directory: &Path, number: u32) -> PathBuf {
    directory.join(format!("{number:010}.log"))
}

/// The segments in a directory, oldest first.
pub(super) fn segments(directory: &Path) -> io::Result<Vec<(u32, PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let number = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".log")?.parse().ok());
        found.extend(number.map(|number| (number, path)));
    }
    found.sort_unstable_by_key(|&(number, _)| number);
    Ok(found)
}
