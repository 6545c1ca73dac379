//! Fan-outs that are huge, or panic on their way: nobody is left out of what comes later, and nobody takes a hole for silence.

use std::sync::Arc;
use std::task::{Wake, Waker};

use bytes::Bytes;
use parking_lot::Mutex;
use tidegate_core::message::ServerMessage;
use tidegate_core::session::Transmit;
use tidegate_core::{Body, ChannelKind, ChannelName, ChannelRule, Moment, Pattern, Publication};
use tokio::task::yield_now;

use crate::connection::Port;
use crate::instructions::Room;

/// A driver whose waking panics.
struct Broken;

impl Wake for Broken {
    fn wake(self: Arc<Self>) {
        panic!("waking this driver panics");
    }
}

/// A driver that stands in the run queue once it is woken.
struct Queued {
    number: usize,
    queue: Arc<Mutex<Vec<usize>>>,
}

impl Wake for Queued {
    fn wake(self: Arc<Self>) {
        self.queue.lock().push(self.number);
    }
}

fn room(subscribers: u16) -> (ChannelName, Room) {
    let channel = ChannelName::new("orders:eu").unwrap();
    let rule = Arc::new(ChannelRule::new(Pattern::new("**").unwrap(), ChannelKind::Event));
    let room = Room::new(&channel, &rule, subscribers).unwrap();
    (channel, room)
}

fn message(channel: &ChannelName, data: &'static str) -> Arc<Publication> {
    Arc::new(Publication::new(channel.clone(), None, None, None, Body::Data(Bytes::from_static(data.as_bytes()))))
}

/// What a subscriber would be written: data, and `gap`.
fn written(port: &Port) -> Vec<String> {
    let transmits = std::iter::from_fn(|| port.next_transmit(Moment::ZERO));
    transmits
        .filter_map(|transmit| match transmit {
            Transmit::Publication(publication) => match &publication.body {
                Body::Data(data) => Some(String::from_utf8_lossy(data).into_owned()),
                Body::Deleted => None,
            },
            Transmit::Message(message) => matches!(*message, ServerMessage::Gap(_)).then(|| "gap".to_owned()),
            _ => None,
        })
        .collect()
}

#[test]
fn a_panic_leaves_a_gap_where_it_was_and_what_comes_later_comes() {
    let (channel, room) = room(5);
    room.publish(&message(&channel, "1"));
    room.ports[2].sleep(Waker::from(Arc::new(Broken)));
    room.publish(&message(&channel, "2"));
    assert_eq!(room.fanout.metrics.panic.get(), 1);
    room.publish(&message(&channel, "3"));
    for (number, port) in room.ports.iter().enumerate() {
        let expected: &[&str] = if number <= 2 { &["1", "2", "gap", "3"] } else { &["1", "gap", "3"] };
        assert_eq!(written(port), expected, "subscriber {number}");
    }
    assert_eq!(room.fanout.metrics.panic.get(), 1);
}

/// More than one turn's worth: whoever is last gets the same in the same order.
#[test]
fn a_huge_crowd_gets_everything_in_order() {
    let (channel, room) = room(5000);
    let numbers = ["1", "2", "3", "4", "5"];
    numbers.iter().for_each(|number| room.publish(&message(&channel, number)));
    for port in &room.ports {
        assert_eq!(written(port), numbers);
    }
}

/// The drivers of a huge crowd never stand in the run queue all at once: what others have to do would wait behind them.
#[test]
fn the_next_are_woken_when_the_last_have_written() {
    let (channel, room) = room(10_000);
    let queue: Arc<Mutex<Vec<usize>>> = Arc::default();
    let sleep = |port: &Port, number| port.sleep(Waker::from(Arc::new(Queued { number, queue: Arc::clone(&queue) })));
    room.ports.iter().enumerate().for_each(|(number, port)| sleep(port, number));
    let drivers = {
        let (ports, queue) = (room.ports.clone(), Arc::clone(&queue));
        async move {
            let (mut longest, mut done) = (0, 0);
            while done < ports.len() {
                yield_now().await;
                longest = longest.max(queue.lock().len());
                let turn: Vec<usize> = {
                    let mut queue = queue.lock();
                    let some = queue.len().min(61);
                    queue.drain(..some).collect()
                };
                done += turn.len();
                for number in turn {
                    ports[number].sleep(Waker::from(Arc::new(Queued { number, queue: Arc::clone(&queue) })));
                }
            }
            longest
        }
    };
    let drivers = room.runtime.spawn(drivers);
    room.publish(&message(&channel, "1"));
    let longest = room.runtime.block_on(drivers).unwrap();
    assert!((61..1024 + 64).contains(&longest), "{longest} in the queue"); // every 64th is looked at
    assert!(room.ports.iter().all(|port| written(port) == ["1"]));
}
