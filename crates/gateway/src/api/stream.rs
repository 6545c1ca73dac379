//! NDJSON: lines are published as they arrive, many at once, and answered one by one in their order.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use axum::body::Body;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use bytes::{BufMut, Bytes, BytesMut};
use futures_util::future::{MaybeDone, maybe_done};
use futures_util::stream::poll_fn;
use futures_util::{Stream, StreamExt};
use serde::Serialize;
use tidegate::broker::Sequence;
use tidegate::message::Publish;
use tidegate::{ErrorCode, Gate, PublishError};
use tokio::task::unconstrained;

use super::answer::Refusal;
use super::lines::{Line, Lines};
use super::publish::{Receipt, parse, pauses, send_in};

/// Publishes under way for one request: enough to fill a group commit, and 32 MiB at most with messages of the default size.
const WINDOW: usize = 512;
/// What a line may have beside the data: names, ids, braces.
const ENVELOPE: usize = 1024;
/// Answers are gathered up to so many bytes.
const ANSWERS: usize = 16 * 1024;

type Outcome = Result<Receipt, Refusal>;
type Publishing = Pin<Box<MaybeDone<Pin<Box<dyn Future<Output = Outcome> + Send>>>>>;

/// Answers a stream of lines with a stream of results. A caller that does not read its results is not read either.
pub(super) fn answer(gate: Gate, body: Body) -> Response {
    let limit = gate.config().session.limits.message_bytes + ENVELOPE;
    let mut work = Work {
        gate,
        body: Box::pin(body.into_data_stream()),
        lines: Lines::new(limit),
        flying: VecDeque::new(),
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
    body: Pin<Box<dyn Stream<Item = Result<Bytes, axum::Error>> + Send>>,
    lines: Lines,
    /// In the order of their lines.
    flying: VecDeque<Publishing>,
    answered: usize,
    ended: bool,
    /// Order holds also when a line fails that may be sent again: what follows it is not stored.
    sequence: Arc<Sequence>,
    /// The next message and what it waits for: room on a channel whose publishers wait for subscribers. Nothing overtakes it.
    held: Option<(Publish, Pin<Box<dyn Future<Output = ()> + Send>>)>,
}

#[derive(Serialize)]
struct Failed<'a> {
    line: usize,
    error: &'a Refusal,
}

impl Work {
    /// The next answers; `None` when every line has its own.
    fn poll(&mut self, context: &mut std::task::Context<'_>) -> Poll<Option<Bytes>> {
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
    fn read(&mut self, context: &mut std::task::Context<'_>) -> bool {
        while self.flying.len() < WINDOW {
            if let Some((publish, mut room)) = self.held.take() {
                if room.as_mut().poll(context).is_pending() {
                    self.held = Some((publish, room));
                    return false;
                }
                self.launch(Ok(publish), context);
            }
            if let Some(line) = self.lines.next() {
                self.begin(line, context);
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
                        self.begin(line, context);
                    }
                }
            }
        }
        false
    }

    /// Takes the next line.
    fn begin(&mut self, line: Line, context: &mut std::task::Context<'_>) {
        let publish = match line {
            Line::Whole(text) if text.trim_ascii().is_empty() => Err(Refusal::new(ErrorCode::BadRequest, "the line is empty")),
            Line::Whole(text) => parse(&text),
            Line::TooLong => Err(Refusal::new(ErrorCode::TooLarge, "the line is longer than a message may be")),
        };
        match publish {
            Ok(publish) if pauses(&self.gate, &publish) => {
                let (publisher, channel) = (self.gate.publisher(), publish.channel.clone());
                self.held = Some((publish, Box::pin(async move { publisher.room(&channel).await })));
            }
            publish => self.launch(publish, context),
        }
    }

    /// Begins a publish. It is polled at once, so that messages stand in line in the order in which they came; unconstrained, since a
    /// task whose turn has been long would otherwise find everything pending, and the line would be formed anew by chance.
    fn launch(&mut self, publish: Result<Publish, Refusal>, context: &mut std::task::Context<'_>) {
        let (gate, sequence) = (self.gate.clone(), self.sequence.clone());
        let sent: Pin<Box<dyn Future<Output = Outcome> + Send>> = match publish {
            Ok(_) if sequence.is_broken() => Box::pin(std::future::ready(Err(PublishError::from(Sequence::refusal()).into()))),
            Ok(publish) => Box::pin(unconstrained(async move { send_in(&gate, &sequence, publish).await })),
            Err(refusal) => Box::pin(std::future::ready(Err(refusal))),
        };
        let mut publishing = Box::pin(maybe_done(sent));
        // It keeps what came of it until its turn.
        let _ = publishing.as_mut().poll(context);
        self.flying.push_back(publishing);
    }

    /// The answers that are due: of the first lines without one, as far as they are done.
    fn settle(&mut self, context: &mut std::task::Context<'_>) -> Bytes {
        let mut answers = BytesMut::new();
        while answers.len() < ANSWERS {
            let Some(first) = self.flying.front_mut() else { break };
            if first.as_mut().poll(context).is_pending() {
                break;
            }
            let Some(outcome) = first.as_mut().take_output() else { break };
            if outcome.as_ref().is_err_and(Refusal::may_pass) {
                self.sequence.break_off();
            }
            self.flying.pop_front();
            self.answered += 1;
            let written = match &outcome {
                Ok(receipt) => serde_json::to_writer((&mut answers).writer(), receipt),
                Err(error) => serde_json::to_writer((&mut answers).writer(), &Failed { line: self.answered, error }),
            };
            if written.is_ok() {
                answers.put_u8(b'\n');
            }
        }
        answers.freeze()
    }
}
