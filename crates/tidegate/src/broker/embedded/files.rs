//! The open segments, shared by the one that writes and those that read.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use super::record::Record;

/// Where a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The number of its segment; 0 is nowhere.
    pub(super) segment: u32,
    /// The byte in it.
    pub(super) at: u32,
}

impl Place {
    pub(super) const NOWHERE: Self = Self { segment: 0, at: 0 };

    pub(super) const fn is_nowhere(self) -> bool {
        self.segment == 0
    }

    pub(super) const fn as_u64(self) -> u64 {
        (self.segment as u64) << 32 | self.at as u64
    }

    pub(super) const fn from_u64(number: u64) -> Self {
        Self { segment: (number >> 32) as u32, at: number as u32 }
    }

    pub(super) const fn plus(self, bytes: u32) -> Self {
        Self { segment: self.segment, at: self.at + bytes }
    }
}

/// The open segments by number. A reader keeps the set it began with, so a segment that is dropped meanwhile stays readable to it.
#[derive(Clone, Debug, Default)]
pub(super) struct Files(pub(super) BTreeMap<u32, Arc<File>>);

/// How much is read around a record: records of one channel are often neighbours, and a chain of them is walked backwards.
const WINDOW: u64 = 64 * 1024;
/// Reads records, keeping the last window.
pub(super) struct Reader {
    files: Arc<Files>,
    /// How much of the window lies behind the wanted place.
    ahead: u64,
    segment: u32,
    start: u64,
    window: Vec<u8>,
}

impl Reader {
    /// For chains, which are walked backwards and then read forwards.
    pub(super) const fn backwards(files: Arc<Files>) -> Self {
        Self { files, ahead: WINDOW / 8, segment: 0, start: 0, window: Vec::new() }
    }

    /// For reading from the beginning to the end.
    pub(super) const fn forwards(files: Arc<Files>) -> Self {
        Self { files, ahead: WINDOW, segment: 0, start: 0, window: Vec::new() }
    }

    /// So many bytes from this place on.
    pub(super) fn bytes(&mut self, place: Place, len: usize) -> io::Result<&[u8]> {
        if self.in_window(place, len).is_none() {
            self.fill(place.segment, u64::from(place.at), (len as u64).max(WINDOW))?;
        }
        self.in_window(place, len).ok_or_else(|| damaged(place))
    }

    /// The record at this place.
    pub(super) fn record(&mut self, place: Place) -> io::Result<Record<'_>> {
        let at = u64::from(place.at);
        if self.in_window(place, 4).is_none() {
            self.fill(place.segment, (at + self.ahead).saturating_sub(WINDOW).min(at), WINDOW)?;
        }
        let len = self.in_window(place, 4).and_then(Record::claimed_len).ok_or_else(|| damaged(place))?;
        if self.in_window(place, len).is_none() {
            self.fill(place.segment, at, (len as u64).max(WINDOW))?;
        }
        self.in_window(place, len).and_then(Record::decode).ok_or_else(|| damaged(place))
    }

    fn in_window(&self, place: Place, len: usize) -> Option<&[u8]> {
        if self.segment != place.segment {
            return None;
        }
        let from = usize::try_from(u64::from(place.at).checked_sub(self.start)?).ok()?;
        self.window.get(from..from.checked_add(len)?)
    }

    fn fill(&mut self, segment: u32, start: u64, len: u64) -> io::Result<()> {
        let file = self.files.0.get(&segment).ok_or_else(|| io::Error::other(format!("segment {segment} of the log is gone")))?;
        self.window.resize(len as usize, 0);
        let mut filled = 0;
        while filled < self.window.len() {
            match file.read_at(&mut self.window[filled..], start + filled as u64) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.window.clear();
                    return Err(error);
                }
            }
        }
        self.window.truncate(filled);
        (self.segment, self.start) = (segment, start);
        Ok(())
    }
}

pub(super) fn damaged(place: Place) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("segment {} of the log is damaged at byte {}", place.segment, place.at))
}
