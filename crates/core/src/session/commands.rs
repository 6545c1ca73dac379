//! What a client says: taken at its rate, run when there is room for the answer, answered exactly once.

use std::collections::VecDeque;

use bytes::Bytes;

use super::timers::Timer;
use super::{Mode, Notice, Output, Session, State};
use crate::broker::{BrokerError, Published};
use crate::message::{ClientMessage, CommandId, Credential, Publish, ServerMessage};
use crate::{CloseCode, ErrorCode, Moment};

/// What clients are told about when to repeat a command that a broker or backend did not answer.
const UNAVAILABLE_RETRY_MS: u64 = 1000;

/// An unknown type is quoted up to here.
const QUOTED_CHARS: usize = 64;

impl Session {
    /// Frames arrived; each has its price.
    pub(super) fn frames(&mut self, now: Moment, count: u32, assembling: bool) {
        self.heard(now);
        self.follow_assembly(now, assembling);
        if self.mode == Mode::Tidegate && self.state.is_alive() {
            let rate = self.settings.limits.rate;
            self.rate.frames(now, rate, count);
            self.end_if_spent(now);
        }
    }

    /// A message of the client. Those for which there is no room yet wait; the session does not read until they have run.
    pub(super) fn message(&mut self, now: Moment, message: ClientMessage) {
        self.rate.message();
        self.assembled(now);
        match message {
            ClientMessage::Ping { n } => {
                self.rate.ping(now);
                self.outbox.control.answer(n);
            }
            ClientMessage::Pong => self.app_ponged(),
            _ if matches!(self.state, State::Flushing(_)) => {}
            command => {
                self.heartbeat.spoke(now);
                if self.rate.is_over() {
                    let retry_after_ms = self.rate.retry_after_ms(self.settings.limits.rate);
                    self.refuse(id_of(&command), ErrorCode::RateLimited, "over the inbound rate", Some(retry_after_ms));
                } else if self.has_room_for_command() {
                    self.run(command);
                } else {
                    self.backlog.get_or_insert_default().push_back(command);
                }
            }
        }
        self.end_if_spent(now);
    }

    /// Runs what waited, as far as there is room now.
    pub(super) fn run_backlog(&mut self) {
        while self.backlog.is_some() && self.has_room_for_command() && matches!(self.state, State::Opening | State::Open) {
            match self.backlog.as_mut().and_then(|backlog| backlog.pop_front()) {
                Some(command) => self.run(command),
                None => self.backlog = None,
            }
        }
    }

    /// Whether another command may run: a reply that has not been written counts as under way, so that a client that sends
    /// and does not read fills its own socket, not our memory.
    pub(super) fn has_room_for_command(&self) -> bool {
        self.in_flight as usize + self.outbox.control.len() < self.settings.limits.in_flight.max(1)
    }

    fn run(&mut self, command: ClientMessage) {
        if matches!(self.state, State::Opening) && !matches!(command, ClientMessage::Auth { .. }) {
            return self.refuse(id_of(&command), ErrorCode::Unauthenticated, "the first command is auth", None);
        }
        match command {
            ClientMessage::Auth { id, credential } => self.check(id, credential),
            ClientMessage::Subscribe { id, channel, since } => self.subscribe(id, channel, since),
            ClientMessage::Unsubscribe { id, channel } => self.unsubscribe(id, &channel),
            ClientMessage::Publish { id, publish } => self.publish(id, publish),
            ClientMessage::Request { id, method, data } => {
                self.in_flight += 1;
                self.outputs.push_back(Output::Request { id, method, data });
            }
            ClientMessage::Unknown { id, kind } => {
                let kind: String = kind.chars().take(QUOTED_CHARS).collect();
                self.refuse(id, ErrorCode::UnknownType, &format!("no such command: {kind}"), None);
            }
            ClientMessage::Invalid { id, field, problem } => self.refuse(id, ErrorCode::BadRequest, &format!("{field}: {problem}"), None),
            ClientMessage::Ping { .. } | ClientMessage::Pong => {}
        }
    }

    fn check(&mut self, id: CommandId, credential: Credential) {
        if std::mem::replace(&mut self.authority.checking, true) {
            return self.refuse(Some(id), ErrorCode::BadRequest, "another auth is being checked", None);
        }
        self.in_flight += 1;
        self.outputs.push_back(Output::Authenticate { id, credential });
    }

    fn publish(&mut self, id: CommandId, publish: Publish) {
        if !self.grants().is_some_and(|grants| grants.may_publish(&publish.channel)) {
            return self.refuse(Some(id), ErrorCode::Forbidden, "no grant to publish there", None);
        }
        let Some(rule) = self.settings.rule(&publish.channel).cloned() else {
            return self.refuse(Some(id), ErrorCode::UnknownChannel, "no channel rule covers the name", None);
        };
        self.in_flight += 1;
        self.outputs.push_back(Output::Publish { id, rule, publish });
    }

    /// A publish was answered.
    pub(super) fn published(&mut self, id: CommandId, result: Result<Published, BrokerError>) {
        self.in_flight = self.in_flight.saturating_sub(1);
        match result {
            Ok(Published { position, duplicate }) => self.outbox.control.tell(ServerMessage::Published { id, position, duplicate }),
            Err(error) => self.refuse_for(id, &error),
        }
    }

    /// A request was answered.
    pub(super) fn responded(&mut self, id: CommandId, result: Result<Bytes, (ErrorCode, Box<str>)>) {
        self.in_flight = self.in_flight.saturating_sub(1);
        match result {
            Ok(data) => self.outbox.control.tell(ServerMessage::Response { id, data }),
            Err((code, message)) => {
                let retry = matches!(code, ErrorCode::Unavailable | ErrorCode::RateLimited).then_some(UNAVAILABLE_RETRY_MS);
                self.refuse(Some(id), code, &message, retry);
            }
        }
    }

    /// Refuses a command for what its broker said.
    pub(super) fn refuse_for(&mut self, id: CommandId, error: &BrokerError) {
        let (code, retry) = match error {
            BrokerError::Unavailable(_) | BrokerError::Closed => (ErrorCode::Unavailable, Some(UNAVAILABLE_RETRY_MS)),
            BrokerError::Limit(_) => (ErrorCode::LimitExceeded, None),
            BrokerError::Invalid { .. } => (ErrorCode::BadRequest, None),
        };
        // What is wrong inside is for our logs, not for a client.
        match error {
            BrokerError::Unavailable(_) => self.refuse(Some(id), code, "the broker is unavailable", retry),
            other => self.refuse(Some(id), code, &other.to_string(), retry),
        }
    }

    pub(super) fn refuse(&mut self, id: Option<CommandId>, code: ErrorCode, message: &str, retry_after_ms: Option<u64>) {
        self.outbox.control.tell(ServerMessage::Error { id, code, message: message.into(), retry_after_ms });
        self.outputs.push_back(Output::Notice(Notice::Refused(code)));
    }

    fn end_if_spent(&mut self, now: Moment) {
        let rate = self.settings.limits.rate;
        if self.mode == Mode::Tidegate && self.rate.is_spent(rate) {
            let retry_ms = self.rate.retry_after_ms(rate);
            self.close(now, CloseCode::RateLimited, Some(retry_ms), None);
        }
    }

    fn follow_assembly(&mut self, now: Moment, assembling: bool) {
        if !assembling {
            self.timers.stop(Timer::Assemble);
        } else if !self.timers.is_set(Timer::Assemble) {
            self.timers.set(Timer::Assemble, now + self.settings.limits.assemble);
        }
    }

    /// A message is complete. If another is unfinished, it began after this one: data messages are never interleaved
    /// (RFC 6455, 5.4).
    pub(super) fn assembled(&mut self, now: Moment) {
        if self.timers.is_set(Timer::Assemble) {
            self.timers.set(Timer::Assemble, now + self.settings.limits.assemble);
        }
    }

    pub(super) fn assemble_due(&mut self, now: Moment) {
        let code = match self.mode {
            Mode::Tidegate => CloseCode::BadFrame,
            Mode::Raw => CloseCode::PolicyViolation,
        };
        self.close(now, code, None, Some("message not finished in time"));
    }
}

/// Commands that wait for room. Bounded by the rate: what is over it is refused at once.
pub(super) type Backlog = Option<Box<VecDeque<ClientMessage>>>;

const fn id_of(command: &ClientMessage) -> Option<CommandId> {
    match command {
        ClientMessage::Auth { id, .. }
        | ClientMessage::Subscribe { id, .. }
        | ClientMessage::Unsubscribe { id, .. }
        | ClientMessage::Publish { id, .. }
        | ClientMessage::Request { id, .. } => Some(*id),
        ClientMessage::Unknown { id, .. } | ClientMessage::Invalid { id, .. } => *id,
        ClientMessage::Ping { .. } | ClientMessage::Pong => None,
    }
}
