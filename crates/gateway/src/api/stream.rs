//! NDJSON: lines are published as they arrive, many at once, and answered one by one in their order.

use std::collections::VecDeque;
use std::fmt::Write;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use bytes::{BufMut, Bytes, BytesMut};
use futures_util::stream::poll_fn;
use futures_util::{Stream, StreamExt};
use serde::Serialize;
use tidegate::broker::{Published, Sequence};
use tidegate::message::Publish;
use tidegate::{ChannelName, ErrorCode, Gate, PublishError, Publisher};
use tokio::task::unconstrained;
use tokio::time::Instant;

use super::answer::Refusal;
use super::lines::{Line, Lines};
use super::patience::Patience;
use super::publish::{BROKER_WITHIN, parse, pauses, unanswered};

/// Publishes under way for one request: enough for a batch that is written and one that is gathered meanwhile.
const WINDOW: usize = 2048;
/// Bytes of them.
const WINDOW_BYTES: usize = 4 << 20;
/// What a line may have beside the data: names, ids, braces.
const ENVELOPE: usize = 1024;
/// Answers are gathered up to so many bytes.
const ANSWERS: usize = 32 * 1024;

/// Comes when there is room.
type Room = Pin<Box<dyn Future<Output = ()> + Send>>;
type Publishing = Pin<Box<dyn Future<Output = Result<Published, PublishError>> + Send>>;

/// A line on its way.
struct Flying {
    state: State,
    bytes: usize,
    begun: Instant,
}

enum State {
    UnderWay(Publishing),
    Done(Result<Published, Refusal>),
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
        flying: VecDeque::new(),
        flying_bytes: 0,
        patience: Patience::new(BROKER_WITHIN),
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
    /// In the order of their lines.
    flying: VecDeque<Flying>,
    flying_bytes: usize,
    /// For the answer to the first of them.
    patience: Patience,
    answered: usize,
    ended: bool,
    /// Order holds also when a line fails that may be sent again: what follows it is not stored.
    sequence: Arc<Sequence>,
    /// The next message and what it waits for: room on a channel whose publishers wait for subscribers. Nothing overtakes it.
    held: Option<(Publish, usize, Room)>,
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
        while self.flying.len() < WINDOW && self.flying_bytes < WINDOW_BYTES {
            if let Some((publish, bytes, mut room)) = self.held.take() {
                if room.as_mut().poll(context).is_pending() {
                    self.held = Some((publish, bytes, room));
                    return false;
                }
                self.launch(publish, bytes, now, context);
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

    /// Takes the next line.
    fn begin(&mut self, line: Line, now: Instant, context: &mut Context<'_>) {
        let (publish, bytes) = match line {
            Line::Whole(text) if text.trim_ascii().is_empty() => (Err(Refusal::new(ErrorCode::BadRequest, "the line is empty")), 0),
            Line::Whole(text) => (parse(&text, self.channel.as_ref()), text.len()),
            Line::TooLong => (Err(Refusal::new(ErrorCode::TooLarge, "the line is longer than a message may be")), 0),
        };
        if let Ok(publish) = &publish
            && self.channel.as_ref() != Some(&publish.channel)
        {
            self.channel = Some(publish.channel.clone());
        }
        match publish {
            Err(refusal) => self.push(State::Done(Err(refusal)), 0, now),
            Ok(publish) if pauses(&self.gate, &publish) => {
                let (publisher, channel) = (self.publisher.clone(), publish.channel.clone());
                self.held = Some((publish, bytes, Box::pin(async move { publisher.room(&channel).await })));
            }
            Ok(publish) => self.launch(publish, bytes, now, context),
        }
    }

    /// Begins a publish. It is polled at once, so that messages stand in line in the order in which they came; unconstrained, since a
    /// task whose turn has been long would otherwise find everything pending, and the line would be formed anew by chance.
    fn launch(&mut self, publish: Publish, bytes: usize, now: Instant, context: &mut Context<'_>) {
        if self.sequence.is_broken() {
            return self.push(State::Done(Err(PublishError::from(Sequence::refusal()).into())), 0, now);
        }
        let (publisher, sequence) = (self.publisher.clone(), self.sequence.clone());
        let mut publishing: Publishing = Box::pin(unconstrained(async move { publisher.send_in(&sequence, publish).await }));
        let state = match publishing.as_mut().poll(context) {
            Poll::Ready(outcome) => State::Done(outcome.map_err(Refusal::from)),
            Poll::Pending => State::UnderWay(publishing),
        };
        self.push(state, bytes, now);
    }

    fn push(&mut self, state: State, bytes: usize, begun: Instant) {
        self.flying_bytes += bytes;
        self.flying.push_back(Flying { state, bytes, begun });
    }

    /// The answers that are due: of the first lines without one, as far as they are done.
    fn settle(&mut self, context: &mut Context<'_>) -> Bytes {
        let mut answers = BytesMut::new();
        while answers.len() < ANSWERS {
            let Some(outcome) = self.first_done(context) else { break };
            if let Some(Flying { bytes, .. }) = self.flying.pop_front() {
                self.flying_bytes -= bytes;
            }
            self.answered += 1;
            match outcome {
                Ok(published) => receipt(&mut answers, published),
                Err(refusal) => {
                    if refusal.may_pass() {
                        self.sequence.break_off();
                    }
                    let failed = Failed { line: self.answered, error: &refusal };
                    // A number and texts: there is nothing in it that can't be written.
                    serde_json::to_writer((&mut answers).writer(), &failed).unwrap_or_default();
                    answers.put_u8(b'\n');
                }
            }
        }
        answers.freeze()
    }

    /// What became of the first line, if that is known or its time is over.
    fn first_done(&mut self, context: &mut Context<'_>) -> Option<Result<Published, Refusal>> {
        let first = self.flying.front_mut()?;
        let publishing = match &mut first.state {
            State::Done(outcome) => return Some(std::mem::replace(outcome, Err(unanswered()))),
            State::UnderWay(publishing) => publishing,
        };
        if let Poll::Ready(outcome) = publishing.as_mut().poll(context) {
            return Some(outcome.map_err(Refusal::from));
        }
        self.patience.poll_over(context, first.begun).is_ready().then(|| Err(unanswered()))
    }
}

/// Where it went; `epoch` and `offset` are null on `event` channels.
fn receipt(answers: &mut BytesMut, Published { position, duplicate }: Published) {
    // Writing to memory does not fail.
    match position {
        Some(position) => {
            write!(answers, r#"{{"epoch":"{}","offset":{},"duplicate":{duplicate}}}"#, position.epoch, position.offset).unwrap_or_default()
        }
        None => write!(answers, r#"{{"epoch":null,"offset":null,"duplicate":{duplicate}}}"#).unwrap_or_default(),
    }
    answers.put_u8(b'\n');
}
