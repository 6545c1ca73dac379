//! Connections that have ended are taken apart a few at a time: where ten thousand are cut at once, the others get their turns in
//! between, and need not wait for all of their sockets to be closed.

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
    waiting: Vec<Driver>,
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
        state.waiting.push(driver);
        if !std::mem::replace(&mut state.is_served, true) {
            tokio::spawn(Serving(Arc::clone(self)).run());
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
        let rest = self.waiting.len().saturating_sub(IN_A_ROW);
        let next = self.waiting.split_off(rest);
        if next.is_empty() {
            *self = Self { window: self.window, ended: self.ended, ..Self::default() };
        }
        next
    }
}

/// The task. Ends when nobody waits.
struct Serving(Arc<Teardown>);

impl Serving {
    async fn run(self) {
        loop {
            let next = self.0.state.lock().next();
            if next.is_empty() {
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
        let left = std::mem::take(&mut *self.0.state.lock());
        drop(left);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_is_one_of_many_waits() {
        let mut state = State::default();
        let mut waits = |ms| state.is_crowded(Moment::from_ms(ms));
        assert!((0..IN_A_ROW).all(|_| !waits(5)));
        assert!(waits(5) && waits(5));
        assert!((0..IN_A_ROW).all(|_| !waits(6)));
        assert!(waits(6));
    }
}
