//! The answers to lines that were published, as NDJSON.

use tidegate::broker::Published;
use tidegate::{Epoch, Position};

/// Writes where messages went. Neighbours share all but their offset.
#[derive(Default)]
pub(super) struct Receipts {
    epoch: Option<Epoch>,
    /// Up to the offset.
    beginning: Vec<u8>,
}

impl Receipts {
    /// `epoch` and `offset` are null on `event` channels.
    pub(super) fn write(&mut self, answers: &mut Vec<u8>, Published { position, duplicate }: Published) {
        match position {
            Some(Position { epoch, offset }) => {
                if self.epoch != Some(epoch) {
                    (self.epoch, self.beginning) = (Some(epoch), format!(r#"{{"epoch":"{epoch}","offset":"#).into_bytes());
                }
                answers.extend_from_slice(&self.beginning);
                // Writing a number to memory does not fail.
                serde_json::to_writer(&mut *answers, &offset).unwrap_or_default();
            }
            None => answers.extend_from_slice(br#"{"epoch":null,"offset":null"#),
        }
        let end: &[u8] = if duplicate { b",\"duplicate\":true}\n" } else { b",\"duplicate\":false}\n" };
        answers.extend_from_slice(end);
    }
}
