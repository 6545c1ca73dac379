//! What was read back from the disk lately, a group of messages at a time: subscribers that come back together read the same ones.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::Arc;

use parking_lot::Mutex;
use tidegate_core::broker::PageLimit;
use tidegate_core::{ChannelName, Epoch, Publication};

use super::files::Reader;
use super::groups::group_of;
use super::log::{Filling, Stretch};
use super::read;
use super::ring::cost;

/// Messages of one group with consecutive offsets. What an offset of an epoch holds never changes, so it never grows stale; whether
/// it is still to be given to anybody is decided before, from the index.
type Block = Vec<Arc<Publication>>;

/// The blocks read last, bounded in bytes.
#[derive(Debug)]
pub(super) struct Blocks {
    inner: Mutex<Inner>,
    most: usize,
}

#[derive(Debug, Default)]
struct Inner {
    blocks: HashMap<Key, Arc<Block>>,
    /// Oldest first.
    order: VecDeque<Key>,
    bytes: usize,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    channel: ChannelName,
    epoch: u64,
    group: u64,
}

impl Blocks {
    pub(super) fn new(most: usize) -> Self {
        Self { inner: Mutex::default(), most }
    }

    /// The messages of these stretches, as many as the page takes, if all of them are here.
    pub(super) fn page(&self, channel: &ChannelName, epoch: Epoch, stretches: &[Stretch], limit: PageLimit) -> Option<Block> {
        let (mut filling, mut messages) = (Filling::new(limit), Vec::new());
        for stretch in stretches {
            let block = self.find(channel, epoch, stretch)?;
            if !fill(&mut messages, &mut filling, &block, stretch) {
                break;
            }
        }
        Some(messages)
    }

    /// The same, reading from the disk what isn't here. Blocks.
    pub(super) fn read_page(
        &self,
        reader: &mut Reader,
        channel: &ChannelName,
        epoch: Epoch,
        stretches: &[Stretch],
        limit: PageLimit,
    ) -> io::Result<Block> {
        let (mut filling, mut messages) = (Filling::new(limit), Vec::new());
        for stretch in stretches {
            let block = match self.find(channel, epoch, stretch) {
                Some(block) => block,
                None => {
                    let block = Arc::new(read::stretch(reader, channel, stretch)?.into_iter().map(|(message, _)| message).collect());
                    self.keep(channel, epoch, stretch, &block);
                    block
                }
            };
            if !fill(&mut messages, &mut filling, &block, stretch) {
                break;
            }
        }
        Ok(messages)
    }

    fn find(&self, channel: &ChannelName, epoch: Epoch, stretch: &Stretch) -> Option<Arc<Block>> {
        let inner = self.inner.lock();
        let block = inner.blocks.get(&key(channel, epoch, stretch))?;
        let has_all = block.first()?.offset() <= stretch.from && block.last()?.offset() >= stretch.to;
        has_all.then(|| block.clone())
    }

    fn keep(&self, channel: &ChannelName, epoch: Epoch, stretch: &Stretch, block: &Arc<Block>) {
        let mut evicted = Vec::new();
        let mut inner = self.inner.lock();
        let key = key(channel, epoch, stretch);
        inner.bytes += cost_of(block);
        match inner.blocks.insert(key.clone(), block.clone()) {
            Some(replaced) => {
                inner.bytes -= cost_of(&replaced);
                evicted.push(replaced);
            }
            None => inner.order.push_back(key),
        }
        while inner.bytes > self.most
            && let Some(oldest) = inner.order.pop_front()
        {
            let Some(block) = inner.blocks.remove(&oldest) else { continue };
            inner.bytes -= cost_of(&block);
            evicted.push(block);
        }
        drop(inner);
        drop(evicted);
    }
}

/// Puts a stretch of a block into the page. Whether there is room for more.
fn fill(messages: &mut Block, filling: &mut Filling, block: &Block, stretch: &Stretch) -> bool {
    for message in block.iter().filter(|message| (stretch.from..=stretch.to).contains(&message.offset())) {
        if !filling.takes(message) {
            return false;
        }
        messages.push(message.clone());
    }
    !filling.is_full()
}

fn key(channel: &ChannelName, epoch: Epoch, stretch: &Stretch) -> Key {
    Key { channel: channel.clone(), epoch: epoch.as_u64(), group: group_of(stretch.from) }
}

fn cost_of(block: &Block) -> usize {
    block.iter().map(|message| cost(message)).sum()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tidegate_core::{Body, Position};

    use super::*;
    use crate::broker::embedded::files::Place;
    use crate::broker::embedded::groups::{GROUP, Groups};
    use crate::broker::embedded::record::{Record, RecordKind};

    const EPOCH: Epoch = Epoch::new(7);

    fn channel() -> ChannelName {
        ChannelName::new("a").unwrap()
    }

    /// The part of a group up to `last`, which is the last offset written.
    fn stretch(group: u64, last: u64) -> Stretch {
        let from = group * GROUP + 1;
        let (kind, channel) = (RecordKind::Log, "a");
        let record = Record {
            kind,
            moved: false,
            keep_s: 0,
            epoch: 7,
            offset: from,
            time_ms: 0,
            link: 0,
            channel,
            id: None,
            drawn: false,
            key: None,
            data: b"1",
        };
        let mut groups = Groups::default();
        groups.add(Place { segment: 1, at: 36 }, &record);
        Stretch { group: *groups.get(group).unwrap(), from, to: last }
    }

    fn block(stretch: &Stretch) -> Arc<Block> {
        let message = |offset| {
            let position = Some(Position { epoch: EPOCH, offset });
            Arc::new(Publication::new(channel(), position, None, None, Body::Data(Bytes::from_static(b"1"))))
        };
        Arc::new((stretch.from..=stretch.to).map(message).collect())
    }

    #[test]
    fn what_is_kept_is_bounded_and_the_newest() {
        let one = stretch(0, GROUP);
        let blocks = Blocks::new(5 * cost_of(&block(&one)));
        for group in 0..100 {
            let stretch = stretch(group, (group + 1) * GROUP);
            blocks.keep(&channel(), EPOCH, &stretch, &block(&stretch));
            assert!(blocks.find(&channel(), EPOCH, &stretch).is_some());
        }
        let inner = blocks.inner.lock();
        assert_eq!((inner.blocks.len(), inner.order.len()), (5, 5));
        assert_eq!(inner.bytes, inner.blocks.values().map(|block| cost_of(block)).sum::<usize>());
        drop(inner);
        assert!(blocks.find(&channel(), EPOCH, &one).is_none());
    }

    #[test]
    fn a_group_that_has_grown_is_read_again() {
        let (blocks, limit) = (Blocks::new(1 << 20), PageLimit { messages: 100, bytes: 1 << 20 });
        let (short, whole) = (stretch(0, 10), stretch(0, GROUP));
        blocks.keep(&channel(), EPOCH, &short, &block(&short));
        assert_eq!(blocks.page(&channel(), EPOCH, &[short], limit).unwrap().len(), 10);
        assert!(blocks.page(&channel(), EPOCH, &[whole], limit).is_none());
        blocks.keep(&channel(), EPOCH, &whole, &block(&whole));
        let after = Stretch { from: 20, ..whole };
        assert_eq!(blocks.page(&channel(), EPOCH, &[after], limit).unwrap().len() as u64, GROUP - 19);
        assert!(blocks.page(&channel(), Epoch::new(8), &[after], limit).is_none(), "another life of the channel has other messages");
        assert_eq!(blocks.inner.lock().order.len(), 1);
    }
}
