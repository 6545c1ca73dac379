//! A fan-out that panics on its way: nobody is left out of what comes later, and nobody takes the hole for silence.

use std::sync::Arc;
use std::task::{Wake, Waker};

use bytes::Bytes;
use tidegate_core::message::ServerMessage;
use tidegate_core::session::Transmit;
use tidegate_core::{Body, ChannelKind, ChannelName, ChannelRule, Moment, Pattern, Publication};

use crate::connection::Port;
use crate::instructions::Room;

/// A driver whose waking panics.
struct Broken;

impl Wake for Broken {
    fn wake(self: Arc<Self>) {
        panic!("waking this driver panics");
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
