//! Getting connected: when, with which credential, and what becomes of the link that was there before.

use tidegate_core::message::{ClientMessage, Welcome};
use tidegate_core::{CloseClass, close_class};

use super::agreed::Agreed;
use super::io::{Action, text};
use super::link::{Link, Phase, STEP_MS};
use super::{Machine, Move};
use crate::backoff::close_name;
use crate::client::Credential;

impl<R: FnMut() -> f64> Machine<R> {
    pub(super) fn connect(&mut self) {
        self.open_at = u64::MAX;
        if let Some(moving) = &mut self.moving {
            moving.tried = true;
        }
        self.attempt += 1;
        let attempt = self.attempt;
        self.candidate = Some(Link::new(attempt, self.now));
        if !self.authenticates {
            return self.credential(attempt, None);
        }
        let told = self.loss.as_ref().filter(|loss| close_class(loss.code) == CloseClass::Reauthenticate);
        let reason = told.map_or(if attempt == 1 { "connect" } else { "reconnect" }, |loss| close_name(&loss.reason)).into();
        self.made.push(Action::Authenticate { attempt, tries: self.tries + 1, reason });
    }

    pub(super) fn credential(&mut self, attempt: u64, credential: Option<Credential>) {
        let handover = self.moving.as_ref().filter(|_| self.primary.is_some()).and_then(|moving| moving.handover.clone());
        let (now, id) = (self.now, self.last_id + 1);
        let Some(link) = self.link(attempt) else { return };
        if link.phase == Phase::Ready {
            if let Some(credential) = credential {
                let text = text(&ClientMessage::Auth { id, credential: credential.into() });
                self.last_id = id;
                self.made.push(Action::Send { attempt, text });
            }
            return;
        }
        if link.phase != Phase::Credential {
            return;
        }
        link.phase = Phase::Opening;
        link.deadline = now + STEP_MS;
        let mut query = Vec::new();
        if let Some(Credential::Ticket(ticket)) = &credential {
            query.push(("ticket", ticket.as_str().into()));
        }
        query.extend(handover.map(|handover| ("handover", handover)));
        link.credential = credential;
        self.made.push(Action::Open { attempt, query });
    }

    pub(super) fn welcome(&mut self, attempt: u64, welcome: &Welcome) {
        self.agreed = Agreed::from(welcome);
        let Some(mut link) = self.candidate.take_if(|link| link.attempt == attempt) else { return };
        link.phase = Phase::Ready;
        link.ready_at = self.now;
        if let Some(old) = self.leaving.take() {
            self.close(&old, "moved");
        }
        self.leaving = self.primary.replace(link);
        self.moving = None;
        self.loss = None;
        self.open_at = u64::MAX;
        self.dirty = true;
    }

    pub(super) fn challenged(&mut self, attempt: u64) {
        let id = self.next_id();
        match self.link(attempt).and_then(|link| link.credential.clone()) {
            Some(credential @ Credential::Token(_)) => self.send(attempt, &ClientMessage::Auth { id, credential: credential.into() }),
            Some(Credential::Ticket(_)) | None => self.stop(4401, "the server wants a token, and there is none"),
        }
    }

    pub(super) fn going_away(&mut self, attempt: u64, reconnect_after_ms: u64, handover: Option<Box<str>>) {
        if self.primary.as_ref().is_none_or(|link| link.attempt != attempt) || self.moving.is_some() {
            return;
        }
        self.moving = Some(Move { handover, tried: false });
        self.open_at = self.now.saturating_add(reconnect_after_ms);
        if reconnect_after_ms == 0 {
            self.connect();
        }
    }

    pub(super) fn reauthenticate(&mut self, attempt: u64, reason: &str) {
        if self.authenticates {
            self.made.push(Action::Authenticate { attempt, tries: 1, reason: reason.into() });
        }
    }
}
