//! NDJSON: lines are published as they arrive, in pieces of what has come, and answered one by one in their order.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::body::Body;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream::poll_fn;
use futures_util::{Stream, StreamExt};
use serde::Serialize;
use tidegate::broker::{Published, Sequence};
use tidegate::message::Publish;
use tidegate::{ChannelName, ErrorCode, Gate, Publisher};
use tokio::task::unconstrained;
use tokio::time::Instant;

use super::answer::Refusal;
use super::flying::{self, Flying, Publishing};
use super::lines::{Line, Lines};
use super::patience::{Patience, patiently};
use super::publish::{BROKER_WITHIN, crowded, parse, pauses, unanswered};
use super::receipts::Receipts;

/// Lines under way for one request: enough for a batch that is written and one that is gathered meanwhile.
const WINDOW: usize = 2048;
/// Lines that go to the broker together. What a piece costs is little beside so many lines; and with eight in the window the first are
/// answered, and new ones read, while others are still written.
const PIECE: usize = 256;
/// Bytes of them.
const WINDOW_BYTES: usize = 4 << 20;
/// What a line may have beside the data: names, ids, braces.
const ENVELOPE: usize = 1024;
/// Answers are gathered up to so many bytes.
const ANSWERS: usize = 32 * 1024;

/// Comes when there is room. `None` if there was none in time, which begins with the first question.
type Room = Pin<Box<dyn Future<Output = Option<()>> + Send>>;

/// The next message, on a channel whose publishers wait for its subscribers.
struct Held {
    publish: Publish,
    bytes: usize,
    room: Room,
}

/// Answers a stream of lines with a stream of results. A caller that does not read its results is not read either.
pub(super) fn answer(gate: Gate, body: Body) -> Response {
    let limit = gate.config().session.limits.message_bytes + ENVELOPE;
    let mut work = Work {
        publisher: Arc::new(gate.publisher()),
        gate,
        channel: None,
        body: Box::pin(body.into_data_stream()),
        lines: Lines::new(limit),
        piece: Vec::new(),
        piece_bytes: 0,
        flying: VecDeque::new(),
        flying_bytes: 0,
        patience: Patience::new(BROKER_WITHIN),
        receipts: Receipts::default(),
        taken: 0,
        answered: 0,
        ended: false,
        sequence: Arc::default(),
        held: None,
    };
    let results = poll_fn(move |context| work.poll(context));
    ([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(results.map(Ok::<_, std::convert::Infallible>))).into_response()
}

struct Work {
    gate: Gate,
    publisher: Arc<Publisher>,
    /// Of the line before.
    channel: Option<ChannelName>,
    body: Pin<Box<dyn Stream<Item = Result<Bytes, axum::Error>> + Send>>,
    lines: Lines,
    /// The next lines, which go to the broker together.
    piece: Vec<Publish>,
    piece_bytes: usize,
    /// In the order of their lines.
    flying: VecDeque<Flying>,
    /// Of the lines under way or waiting for their pace: 0 where there are none, and only there, since every message has bytes.
    flying_bytes: usize,
    /// For the answer to the first of them.
    patience: Patience,
    receipts: Receipts,
    /// Lines that were read.
    taken: usize,
    answered: usize,
    ended: bool,
    /// Order holds also when a line fails that may be sent again: what follows it is not stored.
    sequence: Arc<Sequence>,
    /// It waits for all that was begun before it, and then for room. Nothing overtakes it.
    held: Option<Held>,
}

#[derive(Serialize)]
struct Failed<'a> {
    line: usize,
    error: &'a Refusal,
}

impl Work {
    /// The next answers; `None` when every line has its own.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let starved = self.read(context);
        let answers = self.settle(context);
        if !answers.is_empty() {
            return Poll::Ready(Some(answers));
        }
        if self.ended && self.flying.is_empty() && self.held.is_none() {
            return Poll::Ready(None);
        }
        if !starved {
            // There are lines left for which there was no room: the publishes under way wake us.
            debug_assert!(!self.flying.is_empty() || self.held.is_some());
        }
        Poll::Pending
    }

    /// Begins publishes as long as there are lines and room. True when it waits for the body.
    fn read(&mut self, context: &mut Context<'_>) -> bool {
        let now = Instant::now();
        let starved = self.read_lines(now, context);
        self.launch(now, context);
        starved
    }

    fn read_lines(&mut self, now: Instant, context: &mut Context<'_>) -> bool {
        while self.taken - self.answered < WINDOW && self.flying_bytes + self.piece_bytes < WINDOW_BYTES {
            if self.let_go(now, context).is_pending() {
                return false;
            }
            if let Some(line) = self.lines.next() {
                self.begin(line, now, context);
                continue;
            }
            if self.ended {
                return false;
            }
            match self.body.as_mut().poll_next(context) {
                Poll::Pending => return true,
                Poll::Ready(Some(Ok(chunk))) => self.lines.feed(chunk),
                // A body that breaks off ends with its last whole line: the rest of it may be half of a message.
                Poll::Ready(Some(Err(_))) => self.ended = true,
                Poll::Ready(None) => {
                    self.ended = true;
                    if let Some(line) = self.lines.rest() {
                        self.begin(line, now, context);
                    }
                }
            }
        }
        false
    }

    /// Publishes the message that is held, if there is one and its time has come, or refuses it if that has passed.
    fn let_go(&mut self, now: Instant, context: &mut Context<'_>) -> Poll<()> {
        let Some(held) = &mut self.held else { return Poll::Ready(()) };
        let room = if self.sequence.is_broken() {
            // It is refused, and needs no room for that.
            Some(())
        } else if self.flying_bytes > 0 {
            // Who is full is known when all before it has been handed out. Then there is an answer, and after each we look again.
            return Poll::Pending;
        } else {
            ready!(held.room.as_mut().poll(context))
        };
        let Some(Held { publish, bytes, .. }) = self.held.take() else { return Poll::Ready(()) };
        if room.is_some() {
            // Alone, for the same reason.
            self.add(publish, bytes);
            self.launch(now, context);
        } else {
            // At once: what follows it may be read before it is answered.
            self.sequence.break_off();
            self.flying.push_back(Flying::Refused(crowded()));
        }
        Poll::Ready(())
    }

    /// Takes the next line.
    fn begin(&mut self, line: Line, now: Instant, context: &mut Context<'_>) {
        self.taken += 1;
        let (publish, bytes) = match line {
            Line::Whole(text) if text.trim_ascii().is_empty() => (Err(Refusal::new(ErrorCode::BadRequest, "the line is empty")), 0),
            Line::Whole(text) => (parse(&text, self.channel.as_ref()), text.len()),
            Line::TooLong => (Err(Refusal::new(ErrorCode::TooLarge, "the line is longer than a message may be")), 0),
        };
        let publish = match publish {
            Ok(publish) => publish,
            Err(refusal) => {
                self.launch(now, context);
                return self.flying.push_back(Flying::Refused(refusal));
            }
        };
        let is_other = self.channel.as_ref() != Some(&publish.channel);
        if is_other {
            self.channel = Some(publish.channel.clone());
        }
        // Asked once for neighbours on one channel: those that pause are never in a piece with others.
        if (is_other || self.piece.is_empty()) && pauses(&self.gate, &publish) {
            self.launch(now, context);
            let (publisher, channel) = (self.publisher.clone(), publish.channel.clone());
            let within = self.gate.config().session.outbox.stall;
            let room = Box::pin(async move { patiently(within, publisher.room(&channel)).await });
            self.held = Some(Held { publish, bytes, room });
            return;
        }
        self.add(publish, bytes);
        if self.piece.len() == PIECE {
            self.launch(now, context);
        }
    }

    fn add(&mut self, publish: Publish, bytes: usize) {
        self.piece.push(publish);
        self.piece_bytes += bytes;
    }

    /// Begins to publish the piece. It is polled at once, so that messages stand in line in the order in which they came; unconstrained,
    /// since a task whose turn has been long would otherwise find everything pending, and the line would be formed anew by chance.
    fn launch(&mut self, begun: Instant, context: &mut Context<'_>) {
        if self.piece.is_empty() {
            return;
        }
        let (piece, bytes, lines) = (std::mem::take(&mut self.piece), std::mem::take(&mut self.piece_bytes), self.piece.len());
        if self.sequence.is_broken() {
            let refused = piece.into_iter().map(|_| Err(Sequence::refusal().into())).collect::<Vec<_>>();
            return self.flying.push_back(Flying::Done(refused.into_iter()));
        }
        let (publisher, sequence) = (self.publisher.clone(), self.sequence.clone());
        let mut publishing: Publishing = Box::pin(unconstrained(async move { publisher.store_all(&sequence, piece).await }));
        let flying = match publishing.as_mut().poll(context) {
            Poll::Ready((outcomes, mut pace)) => match Pin::new(&mut pace).poll(context) {
                // Nobody has to have it: the next line, if it is held, need not wait for the answers to this one.
                Poll::Ready(()) => return self.flying.push_back(Flying::Done(outcomes.into_iter())),
                Poll::Pending => Flying::Paced { outcomes, pace, bytes },
            },
            Poll::Pending => Flying::UnderWay { publishing, lines, bytes, begun },
        };
        self.flying_bytes += bytes;
        self.flying.push_back(flying);
    }

    /// The answers that are due: of the first lines without one, as far as they are done.
    fn settle(&mut self, context: &mut Context<'_>) -> Bytes {
        let mut answers = Vec::new();
        while answers.len() < ANSWERS {
            let Some(outcome) = self.first_done(context) else { break };
            self.answered += 1;
            match outcome {
                Ok(published) => self.receipts.write(&mut answers, published),
                Err(refusal) => {
                    if refusal.may_pass() {
                        self.sequence.break_off();
                    }
                    let failed = Failed { line: self.answered, error: &refusal };
                    // A number and texts: there is nothing in it that can't be written.
                    serde_json::to_writer(&mut answers, &failed).unwrap_or_default();
                    answers.push(b'\n');
                }
            }
        }
        answers.into()
    }

    /// What became of the first line, if that is known or its time is over.
    fn first_done(&mut self, context: &mut Context<'_>) -> Option<Result<Published, Refusal>> {
        loop {
            let first = self.flying.front_mut()?;
            match first {
                Flying::Done(outcomes) => {
                    if let Some(outcome) = outcomes.next() {
                        return Some(outcome.map_err(Refusal::from));
                    }
                }
                Flying::Unanswered(lines) => {
                    if let Some(left) = lines.checked_sub(1) {
                        *lines = left;
                        return Some(Err(unanswered()));
                    }
                }
                Flying::Refused(_) => {}
                Flying::UnderWay { publishing, lines, bytes, begun } => {
                    let (lines, bytes) = (*lines, *bytes);
                    *first = match publishing.as_mut().poll(context) {
                        Poll::Ready((outcomes, pace)) => Flying::Paced { outcomes, pace, bytes },
                        Poll::Pending if self.patience.poll_over(context, *begun).is_ready() => {
                            self.flying_bytes -= bytes;
                            Flying::Unanswered(lines)
                        }
                        Poll::Pending => return None,
                    };
                    continue;
                }
                Flying::Paced { outcomes, pace, bytes } => {
                    if Pin::new(pace).poll(context).is_pending() {
                        flying::take_published(&mut self.flying, context);
                        return None;
                    }
                    self.flying_bytes -= *bytes;
                    *first = Flying::Done(std::mem::take(outcomes).into_iter());
                    continue;
                }
            }
            if let Some(Flying::Refused(refusal)) = self.flying.pop_front() {
                return Some(Err(refusal));
            }
        }
    }
}
