//! The judge: from what publishers and subscribers did and saw, what was lost, doubled, reordered, made up or left unexplained.
//!
//! In the manner of Jepsen: it knows nothing of the system, only the history of operations, one JSON object a line:
//!
//! ```json
//! {"op":"publish","id":"a"}                                        a publish was begun
//! {"op":"acknowledge","id":"a","epoch":"e","offset":1}             and acknowledged
//! {"op":"start","by":"s1","epoch":"e","offset":0}                  s1 has to see everything after offset 0
//! {"op":"receive","by":"s1","epoch":"e","offset":1,"id":"a"}       s1 saw it
//! {"op":"gap","by":"s1","from":2,"to":5,"missed":4,"reason":"slow"}   s1 was told that it misses these
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

/// One thing that was done or seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "lowercase")]
#[allow(missing_docs, reason = "the fields are those of the format above")]
pub enum Op {
    /// A publish was begun: the message may turn up from now on.
    Publish { id: String },
    /// A publish was acknowledged: the message must turn up.
    Acknowledge { id: String, epoch: String, offset: u64 },
    /// A subscriber's view begins: everything after this offset concerns it.
    Start { by: String, epoch: String, offset: u64 },
    /// A subscriber received a message.
    Receive { by: String, epoch: String, offset: u64, id: String },
    /// A subscriber was told that it misses something; without offsets everything in between may be meant.
    Gap { by: String, from: Option<u64>, to: Option<u64>, missed: Option<u64>, reason: String },
}

/// What is wrong with a history.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the fields are the operation's own")]
pub enum Fault {
    /// Acknowledged, after the subscriber's start, never received, and in no gap that it was told of.
    Lost { by: String, id: String, offset: u64 },
    /// Received twice.
    Duplicate { by: String, id: String, offset: u64 },
    /// Received after a message with a higher offset of the same epoch.
    Reordered { by: String, id: String, offset: u64 },
    /// Received, but nobody published it.
    Phantom { by: String, id: String },
    /// One position, two messages: between subscribers, or between a subscriber and an acknowledgement.
    Divergent { epoch: String, offset: u64, ids: [String; 2] },
    /// One message, acknowledged at two positions.
    TwoPlaces { id: String },
    /// A gap that tells another number of messages than are missing.
    WrongGap { by: String, from: u64, to: u64, told: u64, missing: u64 },
    /// A gap for a reason that this run gives no cause for.
    Unexplained { by: String, reason: String },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

/// All faults of a history, sorted. `causes` are the reasons for gaps that the run itself brought about.
pub fn judge(history: &[Op], causes: &[&str]) -> Vec<Fault> {
    let mut facts = Facts::default();
    let mut faults = BTreeSet::new();
    for op in history {
        facts.note(op, causes, &mut faults);
    }
    facts.judge_gaps(&mut faults);
    facts.judge_losses(&mut faults);
    faults.into_iter().collect()
}

/// How many faults there are, and the first five.
pub fn summary(faults: &[Fault]) -> String {
    let first: Vec<String> = faults.iter().take(5).map(ToString::to_string).collect();
    match faults.len() {
        0 => "no faults".to_owned(),
        count => format!("{count} faults: {}", first.join(", ")),
    }
}

/// Reads a history from lines of JSON; an error names the line.
///
/// # Errors
/// When a line is not an operation.
pub fn parse(lines: &str) -> Result<Vec<Op>, String> {
    let numbered = lines.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    numbered.map(|(number, line)| serde_json::from_str(line).map_err(|e| format!("line {}: {e}", number + 1))).collect()
}

type Position = (String, u64);

#[derive(Default)]
struct Facts {
    published: BTreeSet<String>,
    acknowledged: BTreeMap<String, Position>,
    /// Which message is at a position, by whoever said so first.
    at: BTreeMap<Position, String>,
    views: BTreeMap<String, View>,
}

#[derive(Default)]
struct View {
    /// The first offset that does not concern it, in each epoch that it was started in.
    starts: BTreeMap<String, u64>,
    received: BTreeSet<Position>,
    ids: BTreeSet<String>,
    highest: BTreeMap<String, u64>,
    /// Told as missing, with the epoch that the view was in.
    gaps: Vec<Told>,
    epoch: String,
}

struct Told {
    epoch: String,
    from: Option<u64>,
    to: Option<u64>,
    missed: Option<u64>,
}

impl Told {
    fn covers(&self, offset: u64) -> bool {
        self.from.is_none_or(|from| from <= offset) && self.to.is_none_or(|to| offset <= to)
    }
}

impl Facts {
    fn note(&mut self, op: &Op, causes: &[&str], faults: &mut BTreeSet<Fault>) {
        match op {
            Op::Publish { id } => drop(self.published.insert(id.clone())),
            Op::Acknowledge { id, epoch, offset } => {
                let position = (epoch.clone(), *offset);
                if self.acknowledged.insert(id.clone(), position.clone()).is_some_and(|before| before != position) {
                    faults.insert(Fault::TwoPlaces { id: id.clone() });
                }
                self.place(position, id, faults);
            }
            Op::Start { by, epoch, offset } => {
                let view = self.views.entry(by.clone()).or_default();
                view.starts.entry(epoch.clone()).or_insert(*offset);
                view.epoch.clone_from(epoch);
            }
            Op::Receive { by, epoch, offset, id } => self.receive(by, &(epoch.clone(), *offset), id, faults),
            Op::Gap { by, from, to, missed, reason } => {
                if !causes.contains(&reason.as_str()) {
                    faults.insert(Fault::Unexplained { by: by.clone(), reason: reason.clone() });
                }
                let view = self.views.entry(by.clone()).or_default();
                view.gaps.push(Told { epoch: view.epoch.clone(), from: *from, to: *to, missed: *missed });
            }
        }
    }

    fn receive(&mut self, by: &str, position: &Position, id: &str, faults: &mut BTreeSet<Fault>) {
        let (by, id, offset) = (by.to_owned(), id.to_owned(), position.1);
        if !self.published.contains(&id) {
            faults.insert(Fault::Phantom { by: by.clone(), id: id.clone() });
        }
        self.place(position.clone(), &id, faults);
        let view = self.views.entry(by.clone()).or_default();
        let fresh_position = view.received.insert(position.clone());
        let fresh_id = view.ids.insert(id.clone());
        let highest = view.highest.entry(position.0.clone()).or_insert(0);
        if !fresh_position || !fresh_id {
            faults.insert(Fault::Duplicate { by, id, offset });
        } else if offset < *highest {
            faults.insert(Fault::Reordered { by, id, offset });
        }
        *highest = offset.max(*highest);
    }

    fn place(&mut self, position: Position, id: &str, faults: &mut BTreeSet<Fault>) {
        let first = self.at.entry(position.clone()).or_insert_with(|| id.to_owned());
        if first != id {
            faults.insert(Fault::Divergent { epoch: position.0, offset: position.1, ids: [first.clone(), id.to_owned()] });
        }
    }

    /// Where a gap names offsets and a number, exactly so many known messages are missing there.
    fn judge_gaps(&self, faults: &mut BTreeSet<Fault>) {
        for (by, view) in &self.views {
            for told in &view.gaps {
                let (Some(from), Some(to), Some(missed)) = (told.from, told.to, told.missed) else { continue };
                let there = self.at.range((told.epoch.clone(), from)..=(told.epoch.clone(), to));
                let missing = there.filter(|(position, _)| !view.received.contains(*position)).count() as u64;
                if missing != missed {
                    faults.insert(Fault::WrongGap { by: by.clone(), from, to, told: missed, missing });
                }
            }
        }
    }

    fn judge_losses(&self, faults: &mut BTreeSet<Fault>) {
        for (id, position) in &self.acknowledged {
            for (by, view) in &self.views {
                let concerns = view.starts.get(&position.0).is_some_and(|start| position.1 > *start);
                let told = view.gaps.iter().any(|told| told.epoch == position.0 && told.covers(position.1));
                if concerns && !told && !view.received.contains(position) {
                    faults.insert(Fault::Lost { by: by.clone(), id: id.clone(), offset: position.1 });
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ten acknowledged messages, received in order by two subscribers.
    fn clean() -> Vec<Op> {
        let mut history = Vec::new();
        for by in ["s1", "s2"] {
            history.push(Op::Start { by: by.into(), epoch: "e".into(), offset: 0 });
        }
        for offset in 1..=10 {
            history.push(Op::Publish { id: format!("m{offset}") });
            history.push(Op::Acknowledge { id: format!("m{offset}"), epoch: "e".into(), offset });
            for by in ["s1", "s2"] {
                history.push(receive(by, offset));
            }
        }
        history
    }

    fn receive(by: &str, offset: u64) -> Op {
        Op::Receive { by: by.into(), epoch: "e".into(), offset, id: format!("m{offset}") }
    }

    fn gap(from: u64, to: u64, missed: u64, reason: &str) -> Op {
        Op::Gap { by: "s1".into(), from: Some(from), to: Some(to), missed: Some(missed), reason: reason.into() }
    }

    /// The history without s1's receipts of these offsets.
    fn without(offsets: &[u64]) -> Vec<Op> {
        let gone: Vec<Op> = offsets.iter().map(|offset| receive("s1", *offset)).collect();
        clean().into_iter().filter(|op| !gone.contains(op)).collect()
    }

    #[track_caller]
    fn verdict(history: &[Op], expected: &[&str]) {
        let faults: Vec<String> = judge(history, &["slow"]).iter().map(ToString::to_string).collect();
        let named: Vec<&str> = faults.iter().map(|fault| fault.split(' ').next().unwrap_or_default()).collect();
        assert_eq!(named, expected, "{faults:?}");
    }

    #[test]
    fn a_clean_history_has_no_fault() {
        verdict(&clean(), &[]);
    }

    #[test]
    fn an_unacknowledged_message_may_turn_up_or_not() {
        let mut history = clean();
        history.push(Op::Publish { id: "m11".into() });
        verdict(&history, &[]);
        history.extend([receive("s1", 11), receive("s2", 11)]);
        verdict(&history, &[]);
    }

    #[test]
    fn planted_losses_are_found() {
        verdict(&without(&[4]), &["Lost"]); // in the middle
        verdict(&without(&[10]), &["Lost"]); // at the tail
        verdict(&without(&[1]), &["Lost"]); // at the head
        verdict(&without(&[3, 4, 5]), &["Lost", "Lost", "Lost"]);
    }

    #[test]
    fn what_was_told_is_not_lost() {
        let mut history = without(&[3, 4, 5]);
        history.push(gap(3, 5, 3, "slow"));
        verdict(&history, &[]);
    }

    #[test]
    fn planted_gaps_are_found() {
        let mut wrong_number = without(&[3, 4, 5]);
        wrong_number.push(gap(3, 5, 2, "slow"));
        verdict(&wrong_number, &["WrongGap"]);
        let mut too_narrow = without(&[3, 4, 5]);
        too_narrow.push(gap(3, 4, 2, "slow"));
        verdict(&too_narrow, &["Lost"]);
        let mut nothing_missing = clean();
        nothing_missing.push(gap(3, 4, 2, "slow"));
        verdict(&nothing_missing, &["WrongGap"]);
        let mut no_cause = without(&[3]);
        no_cause.push(gap(3, 3, 1, "retention"));
        verdict(&no_cause, &["Unexplained"]);
    }

    #[test]
    fn a_planted_duplicate_is_found() {
        let mut again = clean();
        again.push(receive("s1", 7));
        verdict(&again, &["Duplicate"]);
        let mut elsewhere = clean();
        elsewhere.push(Op::Receive { by: "s2".into(), epoch: "e".into(), offset: 11, id: "m7".into() });
        verdict(&elsewhere, &["Duplicate"]);
    }

    #[test]
    fn planted_reordering_is_found() {
        let mut history = without(&[4]);
        history.push(receive("s1", 4));
        verdict(&history, &["Reordered"]);
    }

    #[test]
    fn a_planted_phantom_is_found() {
        let mut history = clean();
        history.push(Op::Receive { by: "s1".into(), epoch: "e".into(), offset: 11, id: "nobody's".into() });
        verdict(&history, &["Phantom"]);
    }

    #[test]
    fn planted_divergence_is_found() {
        let mut history = clean();
        history.push(Op::Publish { id: "other".into() });
        history.push(Op::Start { by: "s3".into(), epoch: "e".into(), offset: 10 });
        history.push(Op::Receive { by: "s3".into(), epoch: "e".into(), offset: 10, id: "other".into() });
        verdict(&history, &["Divergent"]);
    }

    #[test]
    fn a_second_acknowledgement_elsewhere_is_found() {
        let mut history = clean();
        history.push(Op::Acknowledge { id: "m3".into(), epoch: "e".into(), offset: 3 });
        verdict(&history, &[]); // the same position again: the answer to a repeat
        history.push(Op::Acknowledge { id: "m3".into(), epoch: "f".into(), offset: 1 });
        verdict(&history, &["TwoPlaces"]);
    }

    #[test]
    fn a_new_epoch_starts_its_own_order() {
        let mut history = clean();
        history.push(Op::Gap { by: "s1".into(), from: None, to: None, missed: None, reason: "slow".into() });
        history.push(Op::Start { by: "s1".into(), epoch: "f".into(), offset: 0 });
        history.push(Op::Publish { id: "n1".into() });
        history.push(Op::Acknowledge { id: "n1".into(), epoch: "f".into(), offset: 1 });
        verdict(&history, &["Lost"]);
        history.push(Op::Receive { by: "s1".into(), epoch: "f".into(), offset: 1, id: "n1".into() });
        verdict(&history, &[]);
    }

    #[test]
    fn histories_are_read_from_lines() {
        let text =
            "{\"op\":\"publish\",\"id\":\"a\"}\n\n{\"op\":\"gap\",\"by\":\"s\",\"from\":1,\"to\":2,\"missed\":null,\"reason\":\"slow\"}\n";
        assert_eq!(parse(text).map(|history| history.len()), Ok(2));
        assert!(parse("{\"op\":\"publish\",\"id\":\"a\"}\n{}").is_err_and(|e| e.starts_with("line 2: ")));
    }
}
