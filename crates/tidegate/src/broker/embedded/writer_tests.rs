//! Two batches under way at once, step by step: what is written, what its sync says, and what is shown or taken back.

use std::fs;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::thread;

use bytes::Bytes;
use tidegate_core::broker::contract::Collector;
use tidegate_core::message::Publish;
use tidegate_core::{Body, ChannelKind, ChannelName, Retention};

use super::super::record::SEGMENT_HEADER;
use super::super::request::Outcome;
use super::super::settings::{EmbeddedSettings, OpenError};
use super::super::turns::Writers;
use super::super::{recovery, store};
use super::*;

type Answers<'a> = Pin<Box<dyn Future<Output = Vec<Outcome>> + 'a>>;

/// The writers of a log without their threads.
struct Rig {
    directory: tempfile::TempDir,
    shared: Arc<Shared>,
    writers: Writers,
    sink: Arc<Collector>,
}

fn open(path: &Path, found: impl FnMut(Place, &Record<'_>)) -> Result<Store, OpenError> {
    recovery::open(path, 7, 1 << 20, Arc::default(), found).map(|(store, _)| store)
}

fn disk_error() -> io::Error {
    io::Error::other("the disk is broken")
}

fn now(answers: &mut Answers<'_>) -> Option<Vec<Outcome>> {
    match answers.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(outcomes) => Some(outcomes),
        Poll::Pending => None,
    }
}

fn offsets(outcomes: &[Outcome]) -> Vec<u64> {
    outcomes.iter().map(|outcome| outcome.as_ref().unwrap().position.unwrap().offset).collect()
}

fn all_refused(outcomes: &[Outcome]) -> bool {
    outcomes.iter().all(|outcome| matches!(outcome, Err(BrokerError::Unavailable(_))))
}

impl Rig {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = open(directory.path(), |_, _| ()).unwrap();
        let shared = Arc::new(Shared::new(EmbeddedSettings::fsync(directory.path()), Arc::default(), true));
        shared.channels.begin(store.log, 0);
        let sink = Arc::new(Collector::default());
        shared.sink.set(sink.clone()).ok();
        shared.channels.get_or_begin(&ChannelName::new("a").unwrap()).unwrap().state.lock().subscribed = true;
        Self { writers: Writers::new(shared.clone(), store), directory, shared, sink }
    }

    /// Puts messages with these numbers as their ids in line.
    fn publish<'a>(&'a self, numbers: std::ops::Range<u32>, sequence: &'a Arc<Sequence>) -> Answers<'a> {
        let terms =
            Terms { kind: ChannelKind::Log, retention: Retention { messages: 100, age: Duration::from_secs(3600), bytes: 1 << 20 } };
        let message = |number: u32| {
            let (channel, text) = (ChannelName::new("a").unwrap(), number.to_string());
            let body = Body::Data(Bytes::from(vec![b'x'; 100]));
            Message::new(Publish { channel, message_id: Some(text.into()), key: None, body }, &self.shared)
        };
        let mut answers: Answers<'a> = Box::pin(self.shared.queue.publish_all(terms, numbers.map(message).collect(), sequence));
        assert!(now(&mut answers).is_none());
        answers
    }

    fn write(&self) -> Written {
        match self.writers.writer.lock().turn() {
            Turn::Written(written) => written,
            Turn::Done | Turn::Closed => panic!("nothing was left to be synced"),
        }
    }

    /// A turn that does all there is to do itself.
    fn turn_alone(&self) {
        assert!(matches!(self.writers.writer.lock().turn(), Turn::Done));
    }

    fn end(&self, written: Written, synced: io::Result<Duration>) {
        self.writers.line.end(written, synced, &self.shared);
    }

    fn delivered(&self) -> Vec<u64> {
        self.sink.on(&ChannelName::new("a").unwrap()).iter().map(|publication| publication.offset()).collect()
    }

    /// What is found when the log is opened again: ids and offsets.
    fn reopen(self) -> Vec<(String, u64)> {
        let Self { directory, shared, writers, .. } = self;
        drop((shared, writers));
        let mut all = Vec::new();
        open(directory.path(), |_, record| all.push((record.id.unwrap().to_owned(), record.offset))).unwrap();
        all
    }
}

#[test]
fn a_failed_sync_takes_what_was_written_after_it_along() {
    let (rig, ours, others, later) = (Rig::new(), Arc::default(), Arc::default(), Arc::default());
    let mut first = rig.publish(0..3, &ours);
    let one = rig.write();
    let (mut second, mut repeat) = (rig.publish(3..5, &ours), rig.publish(1..2, &others));
    let two = rig.write();
    rig.end(one, Err(disk_error()));
    rig.end(two, Ok(Duration::ZERO));
    assert!(rig.delivered().is_empty() && now(&mut second).is_none());
    let mut third = rig.publish(9..11, &later);
    rig.turn_alone();
    for answers in [&mut first, &mut second, &mut repeat] {
        assert!(all_refused(&now(answers).unwrap()));
    }
    assert!(ours.is_broken() && others.is_broken() && !later.is_broken());
    assert_eq!(offsets(&now(&mut third).unwrap()), [1, 2]);
    assert_eq!(rig.delivered(), [1, 2]);
    // What was refused is no repeat when it is sent again.
    let mut again = rig.publish(1..2, &later);
    let four = rig.write();
    rig.end(four, Ok(Duration::ZERO));
    let outcome = now(&mut again).unwrap();
    assert_eq!((offsets(&outcome), outcome[0].as_ref().unwrap().duplicate), (vec![3], false));
    drop((first, second, repeat, third, again));
    assert_eq!(rig.reopen(), [("9".into(), 1), ("10".into(), 2), ("1".into(), 3)]);
}

#[test]
fn what_was_refused_is_gone_from_the_disk_though_nothing_follows_it() {
    let (rig, sequence) = (Rig::new(), Arc::default());
    let mut first = rig.publish(0..3, &sequence);
    let one = rig.write();
    rig.end(one, Ok(Duration::ZERO));
    let second = rig.publish(3..5, &sequence);
    let two = rig.write();
    let third = rig.publish(5..6, &sequence);
    let three = rig.write();
    rig.end(two, Err(disk_error()));
    rig.end(three, Ok(Duration::ZERO));
    rig.turn_alone();
    assert_eq!(offsets(&now(&mut first).unwrap()), [1, 2, 3]);
    drop((first, second, third));
    assert_eq!(rig.reopen().last().unwrap(), &("2".into(), 3));
}

#[test]
fn what_was_synced_before_a_failure_stays() {
    let (rig, sequence) = (Rig::new(), Arc::default());
    let mut first = rig.publish(0..3, &sequence);
    let one = rig.write();
    let mut second = rig.publish(3..5, &sequence);
    let two = rig.write();
    rig.end(one, Ok(Duration::ZERO));
    assert_eq!(offsets(&now(&mut first).unwrap()), [1, 2, 3]);
    rig.end(two, Err(disk_error()));
    let (fresh, mut behind) = (Arc::default(), rig.publish(5..6, &sequence));
    let mut third = rig.publish(7..8, &fresh);
    rig.turn_alone();
    assert!(all_refused(&now(&mut second).unwrap()) && all_refused(&now(&mut behind).unwrap()), "nothing of the sequence follows");
    assert_eq!(offsets(&now(&mut third).unwrap()), [4]);
    drop((first, second, third, behind));
    assert_eq!(rig.reopen().last().unwrap(), &("7".into(), 4));
}

#[test]
fn a_write_that_fails_while_another_is_under_way_leaves_that_alone() {
    let (rig, sequence) = (Rig::new(), Arc::default());
    let mut first = rig.publish(0..3, &sequence);
    let one = rig.write();
    // The second of the files is opened for reading.
    let swap = || rig.writers.writer.lock().store.active.as_mut().unwrap().files.swap(0, 1);
    swap();
    let mut second = rig.publish(3..5, &sequence);
    rig.turn_alone();
    swap();
    assert!(all_refused(&now(&mut second).unwrap()) && now(&mut first).is_none());
    rig.end(one, Ok(Duration::ZERO));
    assert_eq!(offsets(&now(&mut first).unwrap()), [1, 2, 3]);
    let fresh = Arc::default();
    let mut third = rig.publish(3..5, &fresh);
    rig.turn_alone();
    assert_eq!(offsets(&now(&mut third).unwrap()), [4, 5]);
    drop((first, second, third));
    assert_eq!(rig.reopen().len(), 5);
}

#[test]
fn whichever_sync_ends_first_what_was_written_first_is_shown_first() {
    let (rig, sequence) = (Rig::new(), Arc::default());
    let mut first = rig.publish(0..3, &sequence);
    let one = rig.write();
    let mut second = rig.publish(3..5, &sequence);
    let mut repeat = rig.publish(0..1, &sequence);
    let two = rig.write();
    thread::scope(|scope| {
        let ending = scope.spawn(|| rig.end(two, Ok(Duration::ZERO)));
        thread::sleep(Duration::from_millis(50));
        assert!(!ending.is_finished() && rig.delivered().is_empty());
        assert!(now(&mut second).is_none() && now(&mut repeat).is_none());
        rig.end(one, Ok(Duration::ZERO));
    });
    assert_eq!(offsets(&now(&mut first).unwrap()), [1, 2, 3]);
    assert_eq!(offsets(&now(&mut second).unwrap()), [4, 5]);
    assert!(now(&mut repeat).unwrap()[0].as_ref().unwrap().duplicate);
    assert_eq!(rig.delivered(), [1, 2, 3, 4, 5]);
}

#[test]
fn a_channel_that_was_forgotten_after_its_publisher_looked_begins_again() {
    let (rig, sequence) = (Rig::new(), Arc::default());
    let name = ChannelName::new("a").unwrap();
    let mut answers = rig.publish(0..3, &sequence);
    let old = rig.shared.channels.get(&name).unwrap();
    assert!(rig.shared.channels.forget(&old, || {
        old.state.lock().forgotten = true;
        true
    }));
    let written = rig.write();
    rig.end(written, Ok(Duration::ZERO));
    assert_eq!(offsets(&now(&mut answers).unwrap()), [1, 2, 3]);
    let new = rig.shared.channels.get(&name).unwrap();
    assert_eq!((old.state.lock().top, new.state.lock().top), (0, 3));
}

/// A power failure keeps any part of what was not synced.
#[test]
fn a_crash_between_two_syncs_is_no_damage_but_a_hole_in_what_was_acknowledged_is() {
    for acknowledged in [false, true] {
        let (rig, sequence) = (Rig::new(), Arc::default());
        let _first = rig.publish(0..3, &sequence);
        let one = rig.write();
        let _second = rig.publish(3..5, &sequence);
        let two = rig.write();
        let _third = acknowledged.then(|| {
            rig.end(one, Ok(Duration::ZERO));
            let third = rig.publish(5..6, &sequence);
            (third, rig.write(), two)
        });
        let path = store::segment_path(rig.directory.path(), 1);
        let mut bytes = fs::read(path).unwrap();
        // The first batch never reached the disk.
        bytes[SEGMENT_HEADER..SEGMENT_HEADER + BATCH_HEADER + 3 * 100].fill(0);
        let crashed = tempfile::tempdir().unwrap();
        fs::write(store::segment_path(crashed.path(), 1), bytes).unwrap();
        let mut found = 0;
        let opened = open(crashed.path(), |_, _| found += 1);
        if acknowledged {
            assert!(matches!(opened, Err(OpenError::Damaged { at: 36, .. })));
        } else {
            let active = opened.unwrap().active.unwrap();
            assert_eq!((found, active.len as usize), (0, SEGMENT_HEADER));
        }
    }
}
