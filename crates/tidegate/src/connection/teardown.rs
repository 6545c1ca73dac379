//! Connections that have ended are taken apart a few at a time: where ten thousand are cut at once, the others get their turns in
//! between, and need not wait for all of their sockets to be closed.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use parking_lot::Mutex;
use tidegate_core::Moment;
use tokio::task::yield_now;

use super::Driver;

/// Taken apart in a row before other tasks get their turn: about a quarter of a millisecond.
const IN_A_ROW: usize = 16;

/// Within this time as many are taken apart on the spot, and only more of them wait: who comes and goes as usual costs no detour.
const WINDOW: Duration = Duration::from_millis(1);

/// The task of a socket, from its first byte to its end: greeted, and driven if it became a connection. One task for both, since another
/// is an allocation, a place in the runtime's list and a turn of its own, which count where very many come and go.
pub(crate) enum Connected {
    /// What the socket needs before its 101, in a box of its own that is given back then.
    Greeting(Greeting),
    Driven(Driver),
    Over,
}

/// What is done about a socket until it is a connection, or none.
pub(crate) type Greeting = Pin<Box<dyn Future<Output = Option<Driver>> + Send>>;

/// Where drivers wait that have ended. There are no more of them than there were connections.
#[derive(Default)]
pub(crate) struct Teardown {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// In the order in which they ended: of a crowd that does not end, none waits longer than those before it take.
    waiting: VecDeque<Driver>,
    /// There is a task that takes them apart.
    is_served: bool,
    window: Moment,
    /// Ended in this window.
    ended: usize,
}

impl Future for Connected {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if let Self::Greeting(greeting) = &mut *self {
            let driver = ready!(greeting.as_mut().poll(cx));
            *self = driver.map_or(Self::Over, Self::Driven);
        }
        let Self::Driven(driver) = &mut *self else { return Poll::Ready(()) };
        ready!(Pin::new(driver).poll(cx));
        if let Self::Driven(driver) = std::mem::replace(&mut *self, Self::Over) {
            let outside = Arc::clone(driver.outside());
            outside.teardown().take(driver, outside.clock().now());
        }
        Poll::Ready(())
    }
}

impl Teardown {
    fn take(self: &Arc<Self>, driver: Driver, now: Moment) {
        let mut state = self.state.lock();
        if !state.is_crowded(now) {
            drop(state);
            return drop(driver);
        }
        state.waiting.push_back(driver);
        let was_served = std::mem::replace(&mut state.is_served, true);
        // Without the lock: a runtime that is closing drops what is spawned on the spot, and the task's end locks.
        drop(state);
        if !was_served {
            tokio::spawn(Serving { teardown: Arc::clone(self), is_over: false }.run());
        }
    }
}

impl State {
    fn is_crowded(&mut self, now: Moment) -> bool {
        if now.since(self.window) >= WINDOW {
            (self.window, self.ended) = (now, 0);
        }
        self.ended += 1;
        self.ended > IN_A_ROW
    }

    /// A few of them; none, and no task any more, at the end.
    fn next(&mut self) -> Vec<Driver> {
        let few = self.waiting.len().min(IN_A_ROW);
        let next: Vec<Driver> = self.waiting.drain(..few).collect();
        if next.is_empty() {
            self.leave();
        }
        next
    }

    /// Whoever still waits, and no task any more. What ended in this window stays counted: it did end.
    fn leave(&mut self) -> VecDeque<Driver> {
        self.is_served = false;
        std::mem::take(&mut self.waiting)
    }
}

/// The task. Ends when nobody waits.
struct Serving {
    teardown: Arc<Teardown>,
    /// Nobody waited: who does by now has a task of its own.
    is_over: bool,
}

impl Serving {
    async fn run(mut self) {
        loop {
            let next = self.teardown.state.lock().next();
            if next.is_empty() {
                self.is_over = true;
                return;
            }
            drop(next);
            yield_now().await;
        }
    }
}

impl Drop for Serving {
    /// With the runtime, or by a panic: who still waits goes with it, since a driver keeps alive what keeps this alive.
    fn drop(&mut self) {
        if !self.is_over {
            let left = self.teardown.state.lock().leave();
            drop(left);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::ops::RangeInclusive;
    use std::sync::mpsc;
    use std::thread;

    use bytes::Bytes;
    use tidegate_core::message::GapReason;
    use tidegate_core::session::{Ending, Mode, Notice, Opening, Output, Session, SubscriptionId};
    use tidegate_core::{ChannelName, ConnectionId, LimitSettings, SessionSettings};
    use tokio::runtime::{Builder, Handle};

    use super::super::{Alarms, Codec, Facts, Hints, Outside, Port, Socket, Start};
    use super::*;
    use crate::admission::{Admission, AdmissionSettings};
    use crate::clock::Clock;
    use crate::upgrade::Speech;

    /// Three times as many as are taken apart in a row.
    const CROWD: RangeInclusive<u64> = 1..=3 * IN_A_ROW as u64;

    /// Remembers in which order connections end.
    struct Remembering {
        clock: Clock,
        alarms: Arc<Alarms>,
        teardown: Arc<Teardown>,
        ended: Mutex<Vec<u64>>,
    }

    impl Outside for Remembering {
        fn clock(&self) -> Clock {
            self.clock
        }

        fn alarms(&self) -> &Arc<Alarms> {
            &self.alarms
        }

        fn teardown(&self) -> &Arc<Teardown> {
            &self.teardown
        }

        fn ended(&self, port: &Port, _: Duration, _: Ending) {
            self.ended.lock().push(port.id().as_u64());
        }

        fn perform(self: Arc<Self>, _: &Arc<Port>, _: Output) {}
        fn detach(self: Arc<Self>, _: &Port, _: SubscriptionId, _: &ChannelName) {}
        fn notice(&self, _: &Port, _: Notice) {}
        fn gap_sent(&self, _: GapReason) {}
        fn buffered(&self, _: usize) {}
        fn lanes_behind(&self, _: i64) {}
    }

    fn outside(home: &Handle) -> Arc<Remembering> {
        let clock = Clock::start();
        let alarms = Arc::new(Alarms::new(clock, home.clone()));
        Arc::new(Remembering { clock, alarms, teardown: Arc::default(), ended: Mutex::default() })
    }

    fn driver(outside: &Arc<Remembering>, number: u64) -> Driver {
        let (id, settings) = (ConnectionId::new(number), Arc::new(SessionSettings::default()));
        let opening = Opening { mode: Mode::Raw, settings, connection: id, identity: None, seed: 1 };
        let facts = Facts { address: [127, 0, 0, 1].into(), opened: Moment::ZERO, hints: Hints::default() };
        let place = Arc::new(Admission::default()).enter(&AdmissionSettings::default(), None).unwrap();
        let port = Arc::new(Port::new(id, facts, Session::new(Moment::ZERO, opening), place, true));
        let (codec, _) = Codec::negotiate(Speech::Raw, &LimitSettings::default(), None::<[&str; 0]>);
        let socket = Socket::Foreign(Box::new(tokio::io::empty()));
        Driver::new(Start { socket, port, outside: Arc::clone(outside) as _, codec, already_read: Bytes::new(), unsaid: None })
    }

    #[test]
    fn only_who_is_one_of_many_waits() {
        let mut state = State::default();
        let mut waits = |ms| state.is_crowded(Moment::from_ms(ms));
        assert!((0..IN_A_ROW).all(|_| !waits(5)));
        assert!(waits(5) && waits(5));
        assert!((0..IN_A_ROW).all(|_| !waits(6)));
        assert!(waits(6));
    }

    /// What is spawned then is dropped before it begins, on the thread that spawned it.
    #[test]
    fn a_crowd_that_ends_while_its_runtime_closes_is_taken_apart_at_once() {
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let outside = outside(runtime.handle());
        let ((begun, has_begun), (done, is_done)) = (mpsc::channel(), mpsc::channel());
        runtime.spawn({
            let outside = Arc::clone(&outside);
            async move {
                begun.send(()).unwrap();
                let is_closing = || tokio::spawn(std::future::pending::<()>()).is_finished();
                while !is_closing() {
                    thread::sleep(Duration::from_millis(1));
                }
                for number in CROWD {
                    outside.teardown.take(driver(&outside, number), Moment::ZERO);
                }
                done.send(()).unwrap();
            }
        });
        has_begun.recv_timeout(Duration::from_secs(10)).expect("a thread takes it up before the runtime closes");
        runtime.shutdown_background();
        is_done.recv_timeout(Duration::from_secs(10)).expect("the thread that ends them waits for itself");
        assert_eq!(*outside.ended.lock(), CROWD.collect::<Vec<_>>());
    }

    /// The next crowd may come between a task's last look and its end: it has a task of its own, its turns and its order.
    #[tokio::test]
    async fn a_task_that_is_over_takes_nobody_along() {
        let outside = outside(&Handle::current());
        let over = Serving { teardown: Arc::clone(&outside.teardown), is_over: true };
        for number in CROWD {
            outside.teardown.take(driver(&outside, number), Moment::ZERO);
        }
        drop(over);
        for turn in 1..=3 {
            assert_eq!(outside.ended.lock().len(), turn * IN_A_ROW);
            yield_now().await;
        }
        assert_eq!(*outside.ended.lock(), CROWD.collect::<Vec<_>>());
    }
}
