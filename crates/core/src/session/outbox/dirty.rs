//! The set of changed keys of a `state` lane: the latest message of each, in order of offset.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::Publication;

/// Up to this many entries a key is found by looking at each; beyond it there is an index. A socket that keeps up never has one,
/// so that a message to it allocates nothing.
const SCANNED: usize = 16;

/// The latest message of each changed key, sorted by offset.
#[derive(Debug, Default)]
pub(super) struct Dirty {
    entries: VecDeque<Arc<Publication>>,
    /// From key to offset, once there are many.
    index: Option<BTreeMap<ByKey, u64>>,
}

impl Dirty {
    /// Puts in the latest message of a key and gives the one it replaces. One that is older than what is there is given back.
    pub(super) fn put(&mut self, publication: Arc<Publication>) -> Option<Arc<Publication>> {
        let offset = publication.offset();
        let replaced = match self.offset_of(&publication) {
            Some(there) if there >= offset => return Some(publication),
            Some(there) => self.place_of(there).ok().and_then(|at| self.entries.remove(at)),
            None => None,
        };
        if let Some(index) = &mut self.index {
            index.remove(key_of(&publication));
            index.insert(ByKey(publication.clone()), offset);
        }
        let at = self.place_of(offset).unwrap_or_else(|at| at);
        self.entries.insert(at, publication);
        if self.index.is_none() && self.entries.len() > SCANNED {
            self.index = Some(self.entries.iter().map(|entry| (ByKey(entry.clone()), entry.offset())).collect());
        }
        replaced
    }

    /// Whether the key is in it.
    pub(super) fn has_key_of(&self, publication: &Publication) -> bool {
        self.offset_of(publication).is_some()
    }

    /// The offset of the first.
    pub(super) fn first(&self) -> Option<u64> {
        self.entries.front().map(|entry| entry.offset())
    }

    pub(super) fn pop_first(&mut self) -> Option<Arc<Publication>> {
        let first = self.entries.pop_front()?;
        self.forget(&first);
        Some(first)
    }

    /// The last, if it lies after this offset.
    pub(super) fn pop_last_after(&mut self, offset: u64) -> Option<Arc<Publication>> {
        let last = self.entries.pop_back_if(|last| last.offset() > offset)?;
        self.forget(&last);
        Some(last)
    }

    fn forget(&mut self, publication: &Publication) {
        if self.entries.is_empty() {
            // A burst's memory is not kept for the quiet after it.
            self.index = None;
            if self.entries.capacity() > SCANNED {
                self.entries = VecDeque::new();
            }
        } else if let Some(index) = &mut self.index {
            index.remove(key_of(publication));
        }
    }

    fn offset_of(&self, publication: &Publication) -> Option<u64> {
        match &self.index {
            Some(index) => index.get(key_of(publication)).copied(),
            None => self.entries.iter().find(|entry| entry.key == publication.key).map(|entry| entry.offset()),
        }
    }

    fn place_of(&self, offset: u64) -> Result<usize, usize> {
        self.entries.binary_search_by_key(&offset, |entry| entry.offset())
    }
}

/// A publication sorted by its key, without a copy of the key.
#[derive(Debug)]
struct ByKey(Arc<Publication>);

fn key_of(publication: &Publication) -> &str {
    publication.key.as_deref().unwrap_or_default()
}

impl Borrow<str> for ByKey {
    fn borrow(&self) -> &str {
        key_of(&self.0)
    }
}

impl PartialEq for ByKey {
    fn eq(&self, other: &Self) -> bool {
        key_of(&self.0) == key_of(&other.0)
    }
}

impl Eq for ByKey {}

impl PartialOrd for ByKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ByKey {
    fn cmp(&self, other: &Self) -> Ordering {
        key_of(&self.0).cmp(key_of(&other.0))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{Body, ChannelName, Epoch, Position};

    fn change(key: u8, offset: u64) -> Arc<Publication> {
        let position = Position { epoch: Epoch::new(1), offset };
        let channel = ChannelName::new("s").unwrap();
        Arc::new(Publication::new(channel, Some(position), None, Some(key.to_string().into()), Body::Deleted))
    }

    proptest! {
        #[test]
        fn it_is_a_map_of_keys_sorted_by_offset(steps in prop::collection::vec((0..60u8, 0..5u8), 1..300)) {
            let mut dirty = Dirty::default();
            let mut model: BTreeMap<u64, u8> = BTreeMap::new();
            for (at, (key, what)) in steps.into_iter().enumerate() {
                let offset = at as u64 + 1;
                match what {
                    0 => prop_assert_eq!(dirty.pop_first().map(|entry| entry.offset()), model.pop_first().map(|(offset, _)| offset)),
                    1 => {
                        let bound = offset.saturating_sub(10);
                        let last = model.last_key_value().map(|(&offset, _)| offset).filter(|&last| last > bound);
                        last.map(|last| model.remove(&last));
                        prop_assert_eq!(dirty.pop_last_after(bound).map(|entry| entry.offset()), last);
                    }
                    _ => {
                        let before = model.iter().find(|(_, there)| **there == key).map(|(&offset, _)| offset);
                        before.map(|before| model.remove(&before));
                        model.insert(offset, key);
                        prop_assert_eq!(dirty.put(change(key, offset)).map(|entry| entry.offset()), before);
                        // An older one changes nothing.
                        prop_assert!(dirty.put(change(key, offset - 1)).is_some());
                    }
                }
                prop_assert_eq!(dirty.first(), model.first_key_value().map(|(&offset, _)| offset));
                prop_assert_eq!(dirty.has_key_of(&change(key, 0)), model.values().any(|&there| there == key));
            }
        }
    }
}
