//! The message ids that a channel remembers, so that a repeat gets the position of the first.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;
use tidegate_core::message::Publish;

/// Ids by a keyed hash of 128 bits: a false match among ten thousand is less likely than a broken disk that nobody notices.
#[derive(Debug, Default)]
pub(super) struct Dedup {
    /// Oldest first. What is forgotten lies side by side, so forgetting costs no way to memory.
    order: VecDeque<Remembered>,
    /// How many were forgotten before the first of them.
    forgotten: u64,
    /// The number of each, counted from the first ever, by its id.
    numbers: HashTable<u64>,
}

#[derive(Clone, Copy, Debug)]
struct Remembered {
    id: u128,
    offset: u64,
    time_ms: u64,
}

/// An id is a hash already: half of it will do.
const fn half(id: u128) -> u64 {
    id as u64
}

/// What a remembered id takes in memory.
pub(super) const ID_COST: usize = 88;

/// Makes the hashes; its keys are drawn per process, so nobody outside can make two ids collide.
#[derive(Debug, Default)]
pub(super) struct IdHasher(RandomState, RandomState);

impl IdHasher {
    /// The id by which a repeat of a message would be found; `None` where it can't be one, since its id was drawn for it.
    pub(super) fn of(&self, publish: &Publish) -> Option<u128> {
        let id = publish.message_id.as_ref().filter(|id| !id.is_drawn())?;
        Some(self.hash(id))
    }

    pub(super) fn hash(&self, id: &str) -> u128 {
        u128::from(self.0.hash_one(id)) << 64 | u128::from(self.1.hash_one(id))
    }
}

impl Dedup {
    /// The offset that the id was published at.
    pub(super) fn find(&self, id: u128) -> Option<u64> {
        self.place(id).map(|place| self.order[place].offset)
    }

    fn place(&self, id: u128) -> Option<usize> {
        let place = |number| (number - self.forgotten) as usize;
        self.numbers.find(half(id), |&number| self.order[place(number)].id == id).map(|&number| place(number))
    }

    /// Remembers where an id was published.
    pub(super) fn remember(&mut self, id: u128, offset: u64, time_ms: u64) {
        if let Some(place) = self.place(id) {
            self.order[place].offset = offset;
            return;
        }
        let number = self.forgotten + self.order.len() as u64;
        self.order.push_back(Remembered { id, offset, time_ms });
        let (order, forgotten) = (&self.order, self.forgotten);
        self.numbers.insert_unique(half(id), number, |&number| half(order[(number - forgotten) as usize].id));
    }

    /// Forgets the one that was remembered last: its message was not written.
    pub(super) fn take_back(&mut self, id: u128) {
        if let Some(place) = self.place(id) {
            self.forget(id, self.forgotten + place as u64);
        }
        self.order.pop_back_if(|last| last.id == id);
    }

    /// Forgets ids from before this time, and the oldest of more than `most`.
    pub(super) fn expire(&mut self, before_ms: u64, most: usize) {
        while self.order.len() > most || self.order.front().is_some_and(|first| first.time_ms < before_ms) {
            if let Some(first) = self.order.pop_front() {
                self.forget(first.id, self.forgotten);
                self.forgotten += 1;
            }
        }
        if self.order.is_empty() && self.order.capacity() > 0 {
            *self = Self::default();
        }
    }

    fn forget(&mut self, id: u128, number: u64) {
        if let Ok(entry) = self.numbers.find_entry(half(id), |&other| other == number) {
            entry.remove();
        }
    }

    pub(super) fn len(&self) -> usize {
        self.order.len()
    }

    pub(super) fn cost(&self) -> usize {
        self.order.len() * ID_COST
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tidegate_core::{Body, ChannelName, DRAWN_BYTES, MessageId};

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Remember(u128),
        TakeBack,
        Expire { age_ms: u64, most: usize },
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            6 => (0u128..40).prop_map(Step::Remember),
            1 => Just(Step::TakeBack),
            2 => (0u64..30, 0usize..20).prop_map(|(age_ms, most)| Step::Expire { age_ms, most }),
        ]
    }

    proptest! {
        /// The model is a list of ids with their offsets and times, oldest first.
        #[test]
        fn it_remembers_what_a_simple_list_does(steps in proptest::collection::vec(step(), 0..200)) {
            let (mut dedup, mut model) = (Dedup::default(), Vec::<(u128, u64, u64)>::new());
            for (now_ms, step) in (0u64..).zip(steps) {
                match step {
                    Step::Remember(id) => {
                        dedup.remember(id, now_ms, now_ms);
                        match model.iter_mut().find(|known| known.0 == id) {
                            Some(known) => known.1 = now_ms,
                            None => model.push((id, now_ms, now_ms)),
                        }
                    }
                    Step::TakeBack => {
                        if let Some((id, ..)) = model.pop() {
                            dedup.take_back(id);
                        }
                    }
                    Step::Expire { age_ms, most } => {
                        let before_ms = now_ms.saturating_sub(age_ms);
                        dedup.expire(before_ms, most);
                        model.drain(..model.len().saturating_sub(most));
                        let old = model.iter().take_while(|known| known.2 < before_ms).count();
                        model.drain(..old);
                    }
                }
                prop_assert_eq!(dedup.len(), model.len());
                for id in 0..40 {
                    prop_assert_eq!(dedup.find(id), model.iter().find(|known| known.0 == id).map(|known| known.1));
                }
            }
        }
    }

    #[test]
    fn only_an_id_that_a_publisher_gave_can_come_again() {
        let hasher = IdHasher::default();
        let of = |message_id| {
            let channel = ChannelName::new("a").unwrap();
            hasher.of(&Publish { channel, message_id, key: None, body: Body::Deleted })
        };
        let text = [b'0'; DRAWN_BYTES];
        let given = MessageId::from(std::str::from_utf8(&text).unwrap());
        assert_eq!((of(None), of(Some(MessageId::drawn(&text))), of(Some(given.clone()))), (None, None, Some(hasher.hash(&given))));
    }

    #[test]
    fn ids_are_forgotten_by_age_and_by_number() {
        let (hasher, mut dedup) = (IdHasher::default(), Dedup::default());
        for number in 0..10u64 {
            dedup.remember(hasher.hash(&number.to_string()), number + 1, number * 100);
        }
        dedup.expire(250, 100);
        assert_eq!(dedup.find(hasher.hash("2")), None);
        assert_eq!(dedup.find(hasher.hash("3")), Some(4));
        dedup.expire(0, 2);
        assert_eq!((dedup.len(), dedup.find(hasher.hash("7")), dedup.find(hasher.hash("8"))), (2, None, Some(9)));
        dedup.take_back(hasher.hash("9"));
        assert_eq!(dedup.find(hasher.hash("9")), None);
        dedup.expire(u64::MAX, 2);
        assert_eq!((dedup.len(), dedup.cost()), (0, 0));
    }
}
