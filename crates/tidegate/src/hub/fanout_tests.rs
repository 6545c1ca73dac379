//! Fan-outs that write and that queue, that are huge, or panic on their way: nobody is left out of what comes later, and nobody takes a
//! hole for silence.

use std::io::{ErrorKind, Read};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::task::{Wake, Waker};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tidegate_core::broker::Sink;
use tidegate_core::message::ServerMessage;
use tidegate_core::session::Transmit;
use tidegate_core::{Body, ChannelKind, ChannelName, ChannelRule, Moment, Pattern, Publication};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;
use tokio::sync::oneshot::error::TryRecvError;
use tokio::task::yield_now;

use super::crowd::Member;
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
    room.ports[2].sleep(Waker::from(Arc::new(Broken)));
    room.publish(&message(&channel, "3"));
    for (number, port) in room.ports.iter().enumerate() {
        let expected: &[&str] = match number {
            0..2 => &["1", "2", "gap", "3"],
            2 => &["1", "2"],
            _ => &["1", "gap", "3"],
        };
        assert_eq!(written(port), expected, "subscriber {number}");
    }
    assert_eq!(room.fanout.metrics.panic.get(), 1, "it is cut, and so panics once");
}

#[test]
fn what_was_delivered_before_a_panic_is_counted() {
    let (channel, room) = room(5);
    room.ports[2].sleep(Waker::from(Arc::new(Broken)));
    room.publish(&message(&channel, "1"));
    let metrics = room.fanout.metrics.encode();
    assert!(metrics.contains("tidegate_delivery_total{kind=\"event\"} 3\n"), "{metrics}");
}

/// Turns that another task gets until all that was given to the channel is handed out.
fn turns_of_others(channel: &ChannelName, room: &Room) -> usize {
    let (fanout, channel) = (Arc::clone(&room.fanout), channel.clone());
    room.runtime.block_on(async move {
        let mut turns = 0;
        while fanout.pace(&channel, true).is_some() {
            yield_now().await;
            turns += 1;
        }
        turns
    })
}

#[test]
fn a_small_crowd_with_much_to_get_lets_others_have_their_turns() {
    let (channel, room) = room(100);
    (0..640).for_each(|_| room.fanout.deliver(&message(&channel, "1")));
    let turns = turns_of_others(&channel, &room);
    // 20 batches to 100 are 2,000 deliveries, 128 in a row.
    assert!((15..30).contains(&turns), "{turns}");
    assert!(room.ports.iter().all(|port| written(port).len() == 640));
}

/// What one subscriber gets in a row is far less than an outbox takes: by number, and by size.
#[test]
fn one_subscriber_with_much_to_get_lets_others_have_their_turns() {
    let (channel, room) = room(1);
    (0..640).for_each(|_| room.fanout.deliver(&message(&channel, "1")));
    let turns = turns_of_others(&channel, &room);
    // 20 batches, 4 in a row.
    assert!((4..10).contains(&turns), "{turns}");
    let large: &'static str = "1".repeat(64 * 1024).leak();
    (0..40).for_each(|_| room.fanout.deliver(&message(&channel, large)));
    let turns = turns_of_others(&channel, &room);
    // Each a batch of its own, 4 in a row.
    assert!((9..15).contains(&turns), "{turns}");
    assert_eq!(written(&room.ports[0]).len(), 680);
}

/// Where drivers have a runtime of their own, they have had a turn there before more is queued for them.
#[test]
fn what_is_queued_waits_for_drivers_on_another_runtime() {
    let (channel, room) = room(1);
    let drivers = Builder::new_current_thread().build().unwrap();
    room.fanout.homes.note_connections(|| drivers.handle().clone());
    (0..640).for_each(|_| room.fanout.deliver(&message(&channel, "1")));
    let mut reached = Vec::new();
    for _ in 0..6 {
        // Ever so many turns here are none there.
        room.runtime.block_on(async {
            for _ in 0..100 {
                yield_now().await;
            }
        });
        reached.push(written(&room.ports[0]).len());
        drivers.block_on(yield_now());
    }
    assert_eq!(reached, [128, 128, 128, 128, 128, 0]);
    assert!(room.fanout.pace(&channel, true).is_none());
}

#[test]
fn a_runtime_of_drivers_that_is_closed_is_not_waited_for() {
    let (channel, room) = room(1);
    let drivers = Builder::new_current_thread().build().unwrap();
    room.fanout.homes.note_connections(|| drivers.handle().clone());
    drop(drivers);
    (0..640).for_each(|_| room.fanout.deliver(&message(&channel, "1")));
    let _ = room.runtime.block_on(room.fanout.pace(&channel, true).unwrap());
    assert_eq!(written(&room.ports[0]).len(), 640);
}

#[test]
fn a_word_of_loss_lets_others_have_their_turns() {
    let (channel, room) = room(5000);
    room.fanout.lost(&channel, None);
    let turns = turns_of_others(&channel, &room);
    assert!((4..10).contains(&turns), "{turns}");
    assert!(room.ports.iter().all(|port| written(port) == ["gap"]));
}

/// What others publish later does not prolong the wait of who published before.
#[test]
fn a_publisher_waits_for_what_was_there_when_it_published() {
    let (channel, room) = room(1);
    let publish = |messages| (0..messages).for_each(|_| room.fanout.deliver(&message(&channel, "1")));
    let crowd = room.fanout.registry.find(&channel).unwrap();
    let take = || crowd.take().is_ok();
    publish(40);
    let mut all = room.fanout.pace(&channel, true).unwrap();
    assert!(room.fanout.pace(&channel, false).is_none(), "so few may be unfinished");
    publish(100);
    let mut most = room.fanout.pace(&channel, false).unwrap();
    assert!(take());
    publish(1000);
    assert!(take() && most.try_recv() == Err(TryRecvError::Empty));
    assert!(take() && most.try_recv() == Err(TryRecvError::Closed), "of 140 at most 96 are not handed out: 64 are");
    assert_eq!(all.try_recv(), Err(TryRecvError::Closed));
}

#[test]
fn who_leaves_a_channel_is_not_full_any_more() {
    let (channel, room) = room(3);
    room.fanout.full.note(&channel, room.ports.clone());
    for (left, port) in (0..3).rev().zip(&room.ports) {
        assert!(!room.fanout.full.is_empty());
        room.fanout.full.forget(&channel, port);
        assert_eq!(room.fanout.full.is_empty(), left == 0);
    }
    room.fanout.full.note(&channel, room.ports.clone());
    assert!(room.fanout.has_room(&channel) && room.fanout.full.is_empty(), "nobody is full");
}

/// A fan-out gives way between delivering to somebody and noting that it is full.
#[test]
fn who_left_before_it_was_noted_is_not_waited_for() {
    let (channel, room) = room(2);
    let crowd = room.fanout.registry.find(&channel).unwrap();
    let members = crowd.members();
    let [left, stays] = &members[..] else { panic!("{members:?}") };
    room.fanout.registry.leave(&channel, &left.port, left.subscription);
    room.fanout.full.forget(&channel, &left.port);
    room.fanout.note_full(&crowd, &members);
    assert!(!room.fanout.full.is_empty(), "one is there");
    room.fanout.registry.leave(&channel, &stays.port, stays.subscription);
    room.fanout.full.forget(&channel, &stays.port);
    assert!(room.fanout.full.is_empty());
    room.fanout.note_full(&crowd, &members);
    assert!(room.fanout.full.is_empty());
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

    /// These sockets hold this message, and nothing else is in any. Loopback may take its time to those, and so nothing of the others is to
    /// be expected any more once they have it.
    fn assert_reached(&mut self, data: &str, expected: impl IntoIterator<Item = usize>) {
        let mut buffer = [0; 1024];
        for number in expected {
            let far = &mut self.far[number];
            far.set_nonblocking(false).unwrap();
            far.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            let length = far.read(&mut buffer).unwrap_or_else(|e| panic!("socket {number}: {e}"));
            far.set_nonblocking(true).unwrap();
            let text = String::from_utf8_lossy(&buffer[..length]);
            let messages = text.matches("\"type\":\"message\"").count();
            assert!(messages == 1 && text.contains(&format!("\"data\":{data}")), "socket {number}: {text}");
        }
        for (number, far) in self.far.iter_mut().enumerate() {
            let more = far.read(&mut buffer).map_err(|e| e.kind());
            assert_eq!(more, Err(ErrorKind::WouldBlock), "socket {number}");
        }
    }
}

#[test]
fn a_message_alone_is_written_to_a_crowd_at_rest_and_wakes_nobody() {
    let mut crowd = Connected::new(200);
    crowd.room.publish(&message(&crowd.channel, "1"));
    crowd.assert_reached("1", 0..200);
    assert!(crowd.woken.lock().is_empty());
}

#[test]
fn what_comes_while_drivers_write_is_queued_to_share_a_write() {
    let mut crowd = Connected::new(200);
    let awake: Vec<Waker> = crowd.room.ports[100..].iter().filter_map(|port| port.stay_awake()).collect();
    crowd.room.publish(&message(&crowd.channel, "1"));
    assert_eq!(awake.len(), 100);
    crowd.assert_reached("1", []);
    assert_eq!(*crowd.woken.lock(), (0..100).collect::<Vec<_>>());
}

#[test]
fn a_message_that_comes_during_the_writes_is_joined_by_the_rest() {
    let mut crowd = Connected::new(200);
    let (fanout, second) = (Arc::clone(&crowd.room.fanout), message(&crowd.channel, "2"));
    crowd.room.fanout.deliver(&message(&crowd.channel, "1"));
    crowd.room.runtime.block_on(async move {
        let channel = fanout.registry.find(&second.channel).unwrap();
        while channel.has_pending() {
            yield_now().await;
        }
        // The first is taken, and written to 128.
        fanout.deliver(&second);
        let _ = fanout.pace(&second.channel, true).unwrap().await;
    });
    crowd.assert_reached("1", 0..128);
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
    crowd.room.fanout.busy.begin();
    crowd.room.publish(&message(&crowd.channel, "1"));
    crowd.assert_reached("1", [0, 2]);
    assert_eq!(*crowd.woken.lock(), [1]);
}

/// Each subscriber of a room has a channel of its own too; the channels.
fn channels_of_one(room: &Room) -> Vec<ChannelName> {
    let rule = Arc::new(ChannelRule::new(Pattern::new("**").unwrap(), ChannelKind::Event));
    let join = |(number, port): (usize, &Arc<Port>)| {
        let channel = ChannelName::new(&format!("own:{number}")).unwrap();
        let subscription = port.with_session(|session| subscribe(session, &channel)).unwrap();
        room.fanout.registry.join(&channel, &rule, Member::new(Arc::clone(port), subscription));
        channel
    };
    room.ports.iter().enumerate().map(join).collect()
}

/// Waits until a channel has handed out all that it was given.
fn finish(room: &Room, channel: &ChannelName) {
    if let Some(all) = room.fanout.pace(channel, true) {
        let _ = room.runtime.block_on(all);
    }
}

#[test]
fn small_channels_share_a_task_and_keep_their_order_past_a_panic() {
    let (_, room) = room(40);
    let channels = channels_of_one(&room);
    room.ports[7].sleep(Waker::from(Arc::new(Broken)));
    for data in ["1", "2"] {
        channels.iter().for_each(|channel| room.fanout.deliver(&message(channel, data)));
    }
    let tasks = || room.runtime.metrics().num_alive_tasks();
    assert_eq!(tasks(), 1);
    channels.iter().for_each(|channel| finish(&room, channel));
    for (number, port) in room.ports.iter().enumerate().filter(|(number, _)| *number != 7) {
        assert_eq!(written(port), ["1", "2"], "subscriber {number}");
    }
    assert_eq!(room.fanout.metrics.panic.get(), 1);
    // Once more: whoever served them is over, and another begins.
    finish(&room, &channels[0]);
    room.runtime.block_on(async {
        while tasks() > 0 {
            yield_now().await
        }
    });
    assert_eq!(room.fanout.busy.channels(), 0);
    room.fanout.deliver(&message(&channels[0], "3"));
    finish(&room, &channels[0]);
    assert_eq!(written(&room.ports[0]), ["3"]);
}

#[test]
fn a_small_channel_that_is_never_done_holds_up_no_other() {
    let (_, room) = room(2);
    let channels = channels_of_one(&room);
    let (fanout, endless, other) = (Arc::clone(&room.fanout), channels[0].clone(), channels[1].clone());
    let mut count = 1;
    fanout.deliver(&message(&endless, "1"));
    fanout.deliver(&message(&other, "2"));
    room.runtime.block_on(async {
        for turn in 0.. {
            assert!(turn < 1000, "it waits for ever");
            if fanout.pace(&other, true).is_none() {
                break;
            }
            // More than a stint can hand out before the next turn.
            for _ in 0..320 {
                count += 1;
                fanout.deliver(&message(&endless, count.to_string().leak()));
            }
            yield_now().await;
        }
    });
    assert_eq!(written(&room.ports[1]), ["2"]);
    finish(&room, &endless);
    assert_eq!(written(&room.ports[0]), (1..=count).map(|number| number.to_string()).collect::<Vec<_>>());
    room.runtime.block_on(async {
        while room.runtime.metrics().num_alive_tasks() > 0 {
            yield_now().await
        }
    });
    assert_eq!(fanout.busy.channels(), 0);
}

#[test]
fn many_small_channels_let_others_have_their_turns() {
    let (_, room) = room(1000);
    let channels = channels_of_one(&room);
    channels.iter().for_each(|channel| room.fanout.deliver(&message(channel, "1")));
    let turns = turns_of_others(&channels[999], &room);
    // 128 in a row.
    assert!((6..12).contains(&turns), "{turns}");
}

/// Channels on whose fan-outs publishers wait, of one subscriber each and of very many; one has begun.
fn under_way(room: &Room, large: &ChannelName) -> Vec<oneshot::Receiver<()>> {
    room.fanout.lost(large, None);
    room.runtime.block_on(async {
        for _ in 0..2 {
            yield_now().await;
        }
    });
    let mut channels = channels_of_one(room);
    channels.truncate(40);
    channels.iter().for_each(|channel| room.fanout.deliver(&message(channel, "1")));
    channels.push(large.clone());
    channels.iter().filter_map(|channel| room.fanout.pace(channel, true)).collect()
}

#[test]
fn publishers_are_let_go_when_the_runtime_of_the_fan_outs_closes() {
    let (channel, room) = room(5000);
    let waits = under_way(&room, &channel);
    let (done, all) = std::sync::mpsc::channel();
    let publisher = std::thread::spawn(move || {
        let runtime = Builder::new_current_thread().build().unwrap();
        waits.into_iter().for_each(|wait| drop(runtime.block_on(wait)));
        done.send(()).unwrap();
    });
    let Room { fanout, runtime, .. } = room;
    assert_eq!(fanout.busy.channels(), 41);
    drop(runtime);
    all.recv_timeout(Duration::from_secs(10)).expect("they wait for nobody");
    publisher.join().unwrap();
    fanout.deliver(&message(&channel, "2"));
    assert!(fanout.pace(&channel, true).is_none(), "nor who comes later");
    assert_eq!(fanout.busy.channels(), 0);
}

/// A task that begins in the place of one that seems to have panicked is not begun again and again.
#[test]
fn publishers_are_let_go_when_the_runtime_closes_in_a_panic() {
    let (channel, room) = room(5000);
    let waits = under_way(&room, &channel);
    let fanout = Arc::clone(&room.fanout);
    let panic = std::thread::spawn(move || {
        let _room = room;
        panic!("a thread that owns a runtime panics");
    });
    assert!(panic.join().is_err());
    assert!(waits.into_iter().all(|mut wait| wait.try_recv() == Err(TryRecvError::Closed)));
    assert_eq!(fanout.busy.channels(), 0);
}
