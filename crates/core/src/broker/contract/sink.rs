//! A sink that collects, with futures to wait on it, and a join that needs no runtime.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

use crate::broker::Sink;
use crate::{ChannelName, Position, Publication};

/// Keeps everything that a broker delivers.
#[derive(Debug, Default)]
pub struct Collector {
    inner: Mutex<Collected>,
}

#[derive(Debug, Default)]
struct Collected {
    publications: Vec<Arc<Publication>>,
    lost: Vec<(ChannelName, Option<Position>)>,
    wakers: Vec<Waker>,
}

impl Collector {
    /// What has come on this channel, in the order in which it came.
    pub fn on(&self, channel: &ChannelName) -> Vec<Arc<Publication>> {
        self.lock().publications.iter().filter(|publication| publication.channel == *channel).cloned().collect()
    }

    /// The channels that were reported as lost, in order.
    pub fn lost(&self) -> Vec<(ChannelName, Option<Position>)> {
        self.lock().lost.clone()
    }

    /// Waits until this holds of what has come on the channel.
    pub async fn until(&self, channel: &ChannelName, holds: impl Fn(&[Arc<Publication>]) -> bool) -> Vec<Arc<Publication>> {
        poll_fn(|context| {
            // Registered before looking, so that what comes in between wakes.
            self.lock().wakers.push(context.waker().clone());
            let found = self.on(channel);
            if holds(&found) { Poll::Ready(found) } else { Poll::Pending }
        })
        .await
    }

    /// Waits until a message at this position or after it has come.
    pub async fn until_position(&self, channel: &ChannelName, position: Position) -> Vec<Arc<Publication>> {
        self.until(channel, |found| found.iter().any(|publication| publication.offset() >= position.offset)).await
    }

    fn lock(&self) -> MutexGuard<'_, Collected> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut Collected)) {
        let wakers = {
            let mut inner = self.lock();
            change(&mut inner);
            std::mem::take(&mut inner.wakers)
        };
        wakers.into_iter().for_each(Waker::wake);
    }
}

impl Sink for Collector {
    fn deliver(&self, publication: &Arc<Publication>) {
        self.change(|inner| inner.publications.push(publication.clone()));
    }

    fn lost(&self, channel: &ChannelName, position: Option<Position>) {
        self.change(|inner| inner.lost.push((channel.clone(), position)));
    }
}

/// Drives all of them at once and gives their results in order. Polls each on every wake, which is fine for a few dozen.
pub async fn join_all<F: Future>(futures: impl IntoIterator<Item = F>) -> Vec<F::Output> {
    let mut running: Vec<Pin<Box<F>>> = futures.into_iter().map(Box::pin).collect();
    let mut results: Vec<Option<F::Output>> = running.iter().map(|_| None).collect();
    poll_fn(|context| {
        for (future, result) in running.iter_mut().zip(&mut results) {
            if result.is_none()
                && let Poll::Ready(output) = future.as_mut().poll(context)
            {
                *result = Some(output);
            }
        }
        if results.iter().all(Option::is_some) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    results.into_iter().flatten().collect()
}
