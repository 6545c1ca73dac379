//! The session: one connection's life as a machine without I/O.
//!
//! What comes in goes through [`Session::handle`] (and [`Session::deliver`], the one that is called for every subscriber of every
//! message). After each, [`Session::poll_output`] until it gives `None`; while the socket takes bytes, [`Session::poll_transmit`];
//! and a [`Input::Timeout`] no earlier than [`Session::poll_timeout`].

mod io;

pub use io::{Ending, Input, Mode, Notice, Output, Push, Shed, SubscriptionId, Transmit};

use std::sync::Arc;

use crate::{Identity, Moment, Publication, SessionSettings};

/// One connection's life.
#[derive(Debug)]
pub struct Session {}

/// What a session begins with.
#[derive(Debug)]
pub struct Opening {
    /// What it speaks.
    pub mode: Mode,
    /// Its settings.
    pub settings: Arc<SessionSettings>,
    /// The connection's id, told in `welcome`.
    pub connection: Box<str>,
    /// Who it is, if the upgrade authenticated it.
    pub identity: Option<Arc<Identity>>,
    /// Seeds the jitter of its timers.
    pub seed: u64,
}

impl Session {
    /// A session whose upgrade has just been answered with 101.
    pub fn new(now: Moment, opening: Opening) -> Self {
        let _ = (now, opening);
        todo!()
    }

    /// Takes in what happened.
    pub fn handle(&mut self, now: Moment, input: Input) {
        let _ = (now, input);
        todo!()
    }

    /// Takes in a publication of a channel it is attached to. Separate from `handle` because it is the hot path: nothing is
    /// allocated when the outbox has room, and the outcome is a value for the hub to count.
    pub fn deliver(&mut self, now: Moment, subscription: SubscriptionId, publication: &Arc<Publication>) -> Push {
        let _ = (now, subscription, publication);
        todo!()
    }

    /// What is to be done next.
    pub fn poll_output(&mut self) -> Option<Output> {
        todo!()
    }

    /// What is to be written next. Ask only when the socket can take it: what is not asked for can still be conflated,
    /// dropped by policy, or overtaken by a control message.
    pub fn poll_transmit(&mut self, now: Moment) -> Option<Transmit> {
        let _ = now;
        todo!()
    }

    /// Whether [`Session::poll_transmit`] would give something.
    pub fn wants_write(&self) -> bool {
        todo!()
    }

    /// Whether the socket is to be read: not while too many commands are under way, nor after the end.
    pub fn wants_read(&self) -> bool {
        todo!()
    }

    /// Whether a raw session takes another message ([`Input::RawSend`]) now.
    pub fn has_room(&self) -> bool {
        todo!()
    }

    /// When [`Input::Timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Moment> {
        todo!()
    }

    /// Bytes that wait in the outbox.
    pub fn outbox_bytes(&self) -> usize {
        todo!()
    }

    /// Lanes that are behind their channel.
    pub fn lanes_behind(&self) -> usize {
        todo!()
    }

    /// Who it is, once that is known.
    pub fn identity(&self) -> Option<&Arc<Identity>> {
        todo!()
    }
}
