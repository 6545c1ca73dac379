//! Keys that messages under way bring to a table: what has its offset and is not shown yet counts against the limit too.

use std::collections::HashMap;

/// How many values of each key are under way. As many as batches under way hold.
#[derive(Debug, Default)]
pub(super) struct GivenKeys(HashMap<Box<str>, u32>);

impl GivenKeys {
    pub(super) fn contains(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// A value of this key was given an offset.
    pub(super) fn add(&mut self, key: &str) {
        match self.0.get_mut(key) {
            Some(values) => *values += 1,
            None => drop(self.0.insert(key.into(), 1)),
        }
    }

    /// A value of this key is in the table. What was taken back is no longer known here.
    pub(super) fn shown(&mut self, key: &str) {
        if let Some(values) = self.0.get_mut(key) {
            *values -= 1;
            if *values == 0 {
                self.0.remove(key);
            }
        }
    }

    /// Keys that the table does not have now: also those that it had when their values were given, and that were deleted since.
    pub(super) fn beyond(&self, is_in_table: impl Fn(&str) -> bool) -> usize {
        self.0.keys().filter(|key| !is_in_table(key)).count()
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use tidegate_core::broker::BrokerError;
    use tidegate_core::message::Publish;
    use tidegate_core::{Body, ChannelKind, ChannelName, Epoch, Publication, Retention};

    use super::super::channel::{State, Verdict};
    use super::super::memory::Memory;
    use super::super::settings::EmbeddedSettings;
    use super::super::terms::Terms;
    use super::*;

    fn publish(key: &str, body: &Body) -> Publish {
        Publish { channel: ChannelName::new("a").unwrap(), message_id: None, key: Some(key.into()), body: body.clone() }
    }

    /// A state channel with room for two keys.
    struct Channel {
        state: State,
        memory: Memory,
        terms: Terms,
    }

    impl Channel {
        fn give(&mut self, key: &str, body: &Body) -> Result<Publication, BrokerError> {
            match self.state.give(&self.terms, &publish(key, body), None, &self.memory)? {
                Verdict::New(offset) => {
                    let position = Some(self.state.position(offset));
                    Ok(Publication::new(ChannelName::new("a").unwrap(), position, None, Some(key.into()), body.clone()))
                }
                Verdict::Repeat(_) | Verdict::Gone => panic!("neither a repeat nor forgotten"),
            }
        }

        fn show(&mut self, publication: Publication) {
            self.state.commit(&self.terms, &publication.into(), 0, None);
        }
    }

    #[test]
    fn a_key_that_is_deleted_and_set_again_on_the_way_keeps_its_place() {
        let retention = Retention { messages: 2, age: std::time::Duration::MAX, bytes: 1 << 20 };
        let terms = Terms { kind: ChannelKind::State, retention };
        let mut channel = Channel { state: State::new(Epoch::new(1)), memory: Memory::new(&EmbeddedSettings::fsync(""), true), terms };
        let value = Body::Data(bytes::Bytes::from_static(b"1"));
        for key in ["a", "x"] {
            let set = channel.give(key, &value).unwrap();
            channel.show(set);
        }
        let deleted = channel.give("a", &Body::Deleted).unwrap();
        let again = channel.give("a", &value).unwrap();
        channel.show(deleted);
        assert!(matches!(channel.give("c", &value), Err(BrokerError::Limit(_))));
        channel.show(again);
        assert!(matches!(channel.give("c", &value), Err(BrokerError::Limit(_))));
        let deleted = channel.give("x", &Body::Deleted).unwrap();
        channel.show(deleted);
        assert!(channel.give("c", &value).is_ok());
    }

    #[test]
    fn each_value_under_way_counts_its_key_once() {
        let mut keys = GivenKeys::default();
        ["a", "b", "a"].iter().for_each(|key| keys.add(key));
        assert_eq!((keys.len(), keys.beyond(|key| key == "b")), (2, 1));
        keys.shown("a");
        assert!(keys.contains("a"));
        ["a", "a", "never"].iter().for_each(|key| keys.shown(key));
        assert!(!keys.contains("a") && keys.contains("b"));
        keys.clear();
        assert_eq!(keys.len(), 0);
    }
}
