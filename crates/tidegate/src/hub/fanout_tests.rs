//! Fan-outs that write and that queue, that are huge, or panic on their way: nobody is left out of what comes later, and nobody takes a
//! hole for silence.

use std::io::{ErrorKind, Read};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Wake, Waker};

use bytes::Bytes;
use parking_lot::Mutex;
use tidegate_core::broker::Sink;
use tidegate_core::message::ServerMessage;
use tidegate_core::session::Transmit;
use tidegate_core::{Body, ChannelKind, ChannelName, ChannelRule, Moment, Pattern, Publication};
use tokio::runtime::{Builder, Runtime};
use tokio::task::yield_now;

use crate::connection::Port;
use crate::instructions::{Room, subscribe};

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

/// A room whose subscribers have sockets and sleep, and the other ends.
struct Connected {
    channel: ChannelName,
    room: Room,
    /// Drivers that were woken.
    woken: Arc<Mutex<Vec<usize>>>,
    far: Vec<TcpStream>,
    _sockets: Runtime,
}

impl Connected {
    fn new(subscribers: u16) -> Self {
        let (channel, room) = room(subscribers);
        let sockets = Builder::new_multi_thread().worker_threads(1).enable_io().build().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let woken: Arc<Mutex<Vec<usize>>> = Arc::default();
        let connect = |(number, port): (usize, &Arc<Port>)| {
            let far = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (near, _) = listener.accept().unwrap();
            [&far, &near].iter().for_each(|stream| stream.set_nonblocking(true).unwrap());
            let near = sockets.block_on(async {
                let near = tokio::net::TcpStream::from_std(near).unwrap();
                near.writable().await.unwrap();
                near
            });
            port.open(near);
            port.sleep(Waker::from(Arc::new(Queued { number, queue: Arc::clone(&woken) })));
            far
        };
        let far = room.ports.iter().enumerate().map(connect).collect();
        Self { channel, room, woken, far, _sockets: sockets }
    }

    /// Which of the sockets hold this message and no other.
    fn reached(&mut self, data: &str) -> Vec<usize> {
        let holds = |far: &mut TcpStream| {
            let mut buffer = [0; 1024];
            match far.read(&mut buffer) {
                Ok(length) => {
                    let text = String::from_utf8_lossy(&buffer[..length]);
                    text.matches("\"type\":\"message\"").count() == 1 && text.contains(&format!("\"data\":{data}"))
                }
                Err(e) => {
                    assert_eq!(e.kind(), ErrorKind::WouldBlock);
                    false
                }
            }
        };
        (0..self.far.len()).filter(|number| holds(&mut self.far[*number])).collect()
    }
}

#[test]
fn a_message_alone_is_written_to_a_crowd_at_rest_and_wakes_nobody() {
    let mut crowd = Connected::new(200);
    crowd.room.publish(&message(&crowd.channel, "1"));
    assert_eq!(crowd.reached("1"), (0..200).collect::<Vec<_>>());
    assert!(crowd.woken.lock().is_empty());
}

#[test]
fn what_comes_while_drivers_write_is_queued_to_share_a_write() {
    let mut crowd = Connected::new(200);
    let awake: Vec<Waker> = crowd.room.ports[100..].iter().filter_map(|port| port.stay_awake()).collect();
    crowd.room.publish(&message(&crowd.channel, "1"));
    assert_eq!(awake.len(), 100);
    assert!(crowd.reached("1").is_empty());
    assert_eq!(*crowd.woken.lock(), (0..100).collect::<Vec<_>>());
}

#[test]
fn a_message_that_comes_during_the_writes_is_joined_by_the_rest() {
    let mut crowd = Connected::new(200);
    let (fanout, second) = (Arc::clone(&crowd.room.fanout), message(&crowd.channel, "2"));
    crowd.room.fanout.deliver(&message(&crowd.channel, "1"));
    crowd.room.runtime.block_on(async move {
        while fanout.registry.has_pending(&second.channel) {
            yield_now().await;
        }
        // The first is taken, and written to 128.
        fanout.deliver(&second);
        fanout.keep_pace(&second.channel, true).await;
    });
    assert_eq!(crowd.reached("1"), (0..128).collect::<Vec<_>>());
    for (number, port) in crowd.room.ports.iter().enumerate() {
        let expected: &[&str] = if number < 128 { &["2"] } else { &["1", "2"] };
        assert_eq!(written(port), expected, "subscriber {number}");
    }
}

#[test]
fn beside_other_channels_only_who_has_no_other_subscription_is_written_to() {
    let mut crowd = Connected::new(3);
    let other = ChannelName::new("orders:us").unwrap();
    crowd.room.ports[1].with_session(|session| subscribe(session, &other)).unwrap();
    crowd.room.fanout.busy.fetch_add(1, Ordering::Relaxed);
    crowd.room.publish(&message(&crowd.channel, "1"));
    assert_eq!(crowd.reached("1"), [0, 2]);
    assert_eq!(*crowd.woken.lock(), [1]);
}
