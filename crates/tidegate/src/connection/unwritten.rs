//! What a socket has not taken yet, and how much of it belongs to a frame that has begun and so has to be finished.

use std::slice;

use bytes::{Buf, Bytes};
use smallvec::SmallVec;
use tidegate_ws::frame_len;

/// Frames in the order in which they go out. None begins in the midst of these bytes, unless frames lie side by side in them.
#[derive(Debug)]
pub(super) struct Unwritten {
    frames: Vec<Bytes>,
    /// Bytes at the front that have to be written whatever comes: the rest of a frame that has begun, or the 101.
    begun: usize,
    untried: bool,
}

impl Unwritten {
    /// What comes before everything that the session says.
    pub(super) fn first(bytes: Bytes) -> Box<Self> {
        Box::new(Self { begun: bytes.len(), frames: vec![bytes], untried: true })
    }

    /// What a write left over of frames that lie side by side.
    pub(super) fn of_one(frames: &Bytes, written: usize) -> Option<Box<Self>> {
        let mut rest = frames.clone();
        rest.advance(written);
        let begun = begun_after(slice::from_ref(frames), 0, written);
        (!rest.is_empty()).then(|| Box::new(Self { frames: vec![rest], begun, untried: false }))
    }

    /// What a write left over of a batch, of which so many bytes had `begun` before.
    pub(super) fn of_batch<const N: usize>(batch: &mut SmallVec<[Bytes; N]>, begun: usize, written: usize) -> Option<Box<Self>> {
        let (mut done, mut left) = (0, written);
        while done < batch.len() && left >= batch[done].len() {
            left -= batch[done].len();
            done += 1;
        }
        if done == batch.len() {
            return None;
        }
        let begun = begun_after(batch, begun, written);
        batch[done].advance(left);
        Some(Box::new(Self { frames: batch.drain(done..).collect(), begun, untried: false }))
    }

    /// Puts it into a batch. Says whether nothing of it was tried yet, so that what the session says may go with it.
    pub(super) fn unpack<const N: usize>(self, batch: &mut SmallVec<[Bytes; N]>) -> bool {
        batch.extend(self.frames);
        self.untried
    }

    /// Only what has begun; `None` if that is nothing.
    pub(super) fn only_begun(mut self: Box<Self>) -> Option<Box<Self>> {
        let (mut kept, mut left) = (0, self.begun);
        while left > 0 && kept < self.frames.len() {
            self.frames[kept].truncate(left);
            left -= self.frames[kept].len();
            kept += 1;
        }
        self.frames.truncate(kept);
        (kept > 0).then_some(self)
    }

    pub(super) const fn begun(&self) -> usize {
        self.begun
    }
}

/// How many bytes the frame in whose midst a write stopped still needs, if so many of these bytes belonged to one that had `begun`.
fn begun_after(frames: &[Bytes], begun: usize, written: usize) -> usize {
    let (mut end, mut start) = (begun, 0);
    for bytes in frames {
        while end < written
            && let Some(length) = bytes.get(end - start..).and_then(frame_len)
        {
            end += length;
        }
        start += bytes.len();
    }
    end.saturating_sub(written)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tidegate_ws::{OpCode, header};

    use super::*;

    /// How a frame lies in a batch.
    #[derive(Clone, Copy, Debug)]
    enum Layout {
        Whole,
        HeaderApart,
        BehindTheLast,
    }

    fn layout() -> impl Strategy<Value = Layout> {
        prop_oneof![Just(Layout::Whole), Just(Layout::HeaderApart), Just(Layout::BehindTheLast)]
    }

    fn bytes_of(unwritten: Option<Box<Unwritten>>) -> Vec<u8> {
        unwritten.map_or_else(Vec::new, |unwritten| unwritten.frames.concat())
    }

    proptest! {
        /// However frames lie and writes stop: all is left that was not written, and what has begun ends with its frame.
        #[test]
        fn what_has_begun_ends_where_its_frame_ends(
            sizes in prop::collection::vec((prop_oneof![0..130_usize, 65_500..65_600_usize], layout()), 1..12),
            writes in prop::collection::vec(0..80_000_usize, 1..8),
            head in 0..200_usize,
        ) {
            let mut batch: SmallVec<[Bytes; 4]> = SmallVec::new();
            let (mut whole, mut ends) = (vec![b'h'; head], vec![head]);
            if head > 0 {
                batch.push(Unwritten::first(whole.clone().into()).frames.remove(0));
            }
            for (number, &(size, layout)) in sizes.iter().enumerate() {
                let (header, payload) = (header(OpCode::Text, size).to_vec(), vec![number as u8; size]);
                let frame = [&header[..], &payload].concat();
                whole.extend(&frame);
                ends.push(whole.len());
                match (layout, batch.last_mut().filter(|_| number > 0)) {
                    (Layout::HeaderApart, _) => batch.extend([header.into(), payload.into()]),
                    (Layout::BehindTheLast, Some(last)) => *last = [&last[..], &frame].concat().into(),
                    _ => batch.push(frame.into()),
                }
            }
            let (mut begun, mut position) = (head, 0);
            for write in writes {
                let write = write.min(whole.len() - position);
                position += write;
                let Some(unwritten) = Unwritten::of_batch(&mut batch, begun, write) else {
                    prop_assert_eq!(position, whole.len());
                    break;
                };
                begun = unwritten.begun;
                let end = if position == 0 { head } else { *ends.iter().find(|&&end| end >= position).unwrap() };
                prop_assert_eq!(position + begun, end);
                let frames = unwritten.frames.clone();
                prop_assert_eq!(bytes_of(unwritten.only_begun()), &whole[position..end]);
                batch = frames.into();
                prop_assert_eq!(batch.concat(), &whole[position..]);
            }
        }

        #[test]
        fn frames_side_by_side_are_cut_alike(sizes in prop::collection::vec(0..300_usize, 1..12), written in 0..4000_usize) {
            let frames = sizes.iter().map(|&size| [&header(OpCode::Text, size)[..], &vec![b'x'; size]].concat()).collect::<Vec<_>>();
            let whole = Bytes::from(frames.concat());
            let written = written.min(whole.len());
            let end = frames.iter().scan(0, |end, frame| { *end += frame.len(); Some(*end) }).find(|&end| end >= written).unwrap();
            let begun = if written == 0 { 0 } else { end - written };
            let unwritten = Unwritten::of_one(&whole, written);
            prop_assert_eq!(unwritten.is_none(), written == whole.len());
            prop_assert_eq!(bytes_of(unwritten.and_then(Unwritten::only_begun)), &whole[written..written + begun]);
        }
    }
}
