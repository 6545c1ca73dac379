//! The task that lends the machine sockets, a clock and a random source. It decides nothing.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use tidegate_core::message::Since;
use tidegate_core::{ChannelKind, ChannelName};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

use crate::address::Address;
use crate::client::{Attempt, Source};
use crate::error::Error;
use crate::event::Event;
use crate::machine::{Action, Command, Input, Machine, Reply};
use crate::socket::{self, Socket};
use crate::subscription::Told;

/// What sockets have read that the machine has not seen: enough to keep both busy, little to wait behind.
const INPUTS: usize = 16;

/// The longest time without looking at the clock: a bound for arithmetic, not a schedule.
const LONG: Duration = Duration::from_secs(24 * 60 * 60);

/// What a program wants.
#[derive(Debug)]
pub(crate) enum Order {
    Subscribe { reference: u64, channel: ChannelName, kind: Option<ChannelKind>, since: Option<Since>, events: mpsc::Sender<Told> },
    Unsubscribe { reference: u64 },
    Command { reference: u64, command: Command, timeout_ms: u64, reply: oneshot::Sender<Result<Reply, Error>> },
    Close,
}

pub(crate) struct Driver {
    machine: Machine<fn() -> f64>,
    began: Instant,
    address: Result<Address, String>,
    source: Option<Source>,
    orders: mpsc::UnboundedReceiver<Order>,
    inputs: (mpsc::Sender<Input>, mpsc::Receiver<Input>),
    sockets: HashMap<u64, Socket>,
    subscriptions: HashMap<u64, mpsc::Sender<Told>>,
    replies: HashMap<u64, oneshot::Sender<Result<Reply, Error>>>,
    /// Events for streams that have no room. While there are any, no socket is read.
    backlog: VecDeque<(u64, Told)>,
}

impl Driver {
    pub(crate) fn new(address: Result<Address, String>, source: Option<Source>, orders: mpsc::UnboundedReceiver<Order>) -> Self {
        Self {
            machine: Machine::new(source.is_some(), rand::random::<f64>),
            began: Instant::now(),
            address,
            source,
            orders,
            inputs: mpsc::channel(INPUTS),
            sockets: HashMap::new(),
            subscriptions: HashMap::new(),
            replies: HashMap::new(),
            backlog: VecDeque::new(),
        }
    }

    /// Works until nobody is left who could want anything.
    pub(crate) async fn run(mut self) {
        match &self.address {
            Ok(_) => self.handle(Input::Start),
            Err(problem) => {
                let reason = format!("the address is not one of a gateway: {problem}").into();
                self.handle(Input::Start);
                self.handle(Input::Closed { attempt: 1, code: 4400, reason });
            }
        }
        loop {
            let wake = self.wake();
            let held = self.backlog.front().and_then(|(reference, _)| self.subscriptions.get(reference)).cloned();
            tokio::select! {
                order = self.orders.recv() => match order {
                    Some(order) => self.order(order),
                    None => break,
                },
                () = room(held), if !self.backlog.is_empty() => self.pass_on(),
                input = self.inputs.1.recv(), if self.backlog.is_empty() => {
                    if let Some(input) = input {
                        self.handle(input);
                    }
                }
                () = sleep_until(wake) => {
                    if !self.backlog.is_empty() {
                        self.handle(Input::Held);
                    }
                    self.handle(Input::Tick);
                }
            }
        }
        self.handle(Input::Stop);
    }

    fn wake(&self) -> Instant {
        let wake = self.began.checked_add(Duration::from_millis(self.machine.deadline()));
        let latest = Instant::now() + LONG;
        wake.map_or(latest, |wake| wake.min(latest))
    }

    fn order(&mut self, order: Order) {
        match order {
            Order::Subscribe { reference, channel, kind, since, events } => {
                self.subscriptions.insert(reference, events);
                self.handle(Input::Subscribe { reference, channel, kind, since });
            }
            Order::Unsubscribe { reference } => {
                self.subscriptions.remove(&reference);
                self.handle(Input::Unsubscribe { reference });
            }
            Order::Command { reference, command, timeout_ms, reply } => {
                self.replies.insert(reference, reply);
                self.handle(Input::Command { reference, command, timeout_ms });
            }
            Order::Close => self.handle(Input::Stop),
        }
    }

    fn handle(&mut self, input: Input) {
        if let Input::Closed { attempt, code, reason } = &input {
            self.sockets.remove(attempt);
            tracing::debug!(attempt, code, %reason, "connection ended");
        }
        let now = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.machine.handle(now, input);
        while let Some(action) = self.machine.poll() {
            self.perform(action);
        }
        self.pass_on();
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::Authenticate { attempt, tries, reason } => self.authenticate(attempt, Attempt { number: tries, reason }),
            Action::Open { attempt, query } => {
                if let Ok(address) = &self.address {
                    let mut address = address.clone();
                    if !query.is_empty() {
                        address.url.query_pairs_mut().extend_pairs(query);
                    }
                    let socket = socket::open(attempt, address, self.source.is_some(), self.inputs.0.clone());
                    self.sockets.insert(attempt, socket);
                }
            }
            Action::Send { attempt, text } => {
                if let Some(socket) = self.sockets.get(&attempt) {
                    socket.send(text);
                }
            }
            Action::Close { attempt, code, reason } => {
                if let Some(socket) = self.sockets.remove(&attempt) {
                    socket.close(code, reason);
                }
            }
            Action::Settle { reference, result } => {
                if let Some(reply) = self.replies.remove(&reference) {
                    drop(reply.send(result));
                }
            }
            Action::Tell { reference, event, cursor } => self.backlog.push_back((reference, (event, cursor))),
            Action::Waiting { code, reason, retry_ms } => tracing::warn!(code, %reason, retry_ms, "not connected"),
            Action::Stopped(stop) => tracing::debug!(%stop, "stopped"),
        }
    }

    fn authenticate(&self, attempt: u64, why: Attempt) {
        let Some(source) = &self.source else { return };
        let (fetched, inputs) = (source(why), self.inputs.0.clone());
        tokio::spawn(async move {
            let input = match fetched.await {
                Ok(credential) => Input::Credential { attempt, credential: Some(credential) },
                Err(reason) => Input::NoCredential { attempt, reason },
            };
            drop(inputs.send(input).await);
        });
    }

    /// Hands events to their streams as far as there is room; those of streams that are gone are of no interest.
    fn pass_on(&mut self) {
        while let Some((reference, told)) = self.backlog.pop_front() {
            let Some(events) = self.subscriptions.get(&reference) else { continue };
            let last = matches!(told.0, Event::Stopped(_));
            match events.try_send(told) {
                Err(mpsc::error::TrySendError::Full(told)) => {
                    self.backlog.push_front((reference, told));
                    return;
                }
                Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => {
                    if last {
                        self.subscriptions.remove(&reference);
                    }
                }
            }
        }
    }
}

/// Waits until a stream has room, or is gone.
async fn room(events: Option<mpsc::Sender<Told>>) {
    if let Some(events) = events {
        drop(events.reserve().await);
    }
}
