//! One request of many lines: sends what is not acknowledged, then what comes, while the results come back.

use std::io;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use futures_util::stream;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use serde::Deserialize;
use tokio::sync::mpsc;

use super::envelope::Envelope;
use super::input::Input;
use super::progress::Progress;
use super::window::Window;
use crate::cli::Api;
use crate::http::{self, CallError, Chunks};

/// Lines are gathered up to so many bytes; what is there is sent at once.
const CHUNK: usize = 32 * 1024;
/// A gateway that acknowledges nothing for so long while messages wait is taken for lost.
const SILENCE: Duration = Duration::from_secs(10);
/// A result longer than this is none of ours.
const RESULT: usize = 64 * 1024;

/// How an exchange ended that did not fail.
#[derive(Debug)]
pub(super) enum Ended {
    /// The input has ended, and everything was answered.
    All,
    /// The gateway can't take messages now. What was not acknowledged is to be sent again.
    Unavailable(String),
}

/// A result, as the API says it.
#[derive(Deserialize)]
struct Answer {
    error: Option<Refused>,
}

#[derive(Deserialize)]
struct Refused {
    code: String,
    message: String,
    retry_after_ms: Option<u64>,
}

pub(super) struct Exchange<'a> {
    envelope: &'a Envelope,
    input: &'a mut Input,
    window: &'a mut Window,
    progress: &'a mut Progress,
    results: BytesMut,
}

impl<'a> Exchange<'a> {
    /// Runs one to its end.
    ///
    /// # Errors
    /// The connection is lost, or the gateway refuses the request as a whole.
    pub(super) async fn run(
        api: &Api,
        envelope: &'a Envelope,
        input: &'a mut Input,
        window: &'a mut Window,
        progress: &'a mut Progress,
    ) -> Result<Ended, CallError> {
        window.rewind();
        let (chunks, body) = body();
        let answer = http::post(api, "/v1/publish", "application/x-ndjson", body).await?;
        Exchange { envelope, input, window, progress, results: BytesMut::new() }.converse(chunks, answer).await
    }

    async fn converse(mut self, chunks: mpsc::Sender<Bytes>, mut answer: Incoming) -> Result<Ended, CallError> {
        let mut chunks = Some(chunks);
        loop {
            if self.input.has_ended() && self.window.is_all_sent() {
                chunks = None; // The body is complete.
                if self.window.is_empty() {
                    return Ok(Ended::All);
                }
            }
            let takes_lines = !self.input.has_ended() && self.window.has_room();
            tokio::select! {
                permit = reserve(chunks.as_ref()), if !self.window.is_all_sent() => match permit {
                    Some(permit) => permit.send(self.gather()),
                    None => return Err(CallError::Lost("the connection ended".to_owned())),
                },
                line = self.input.next(), if takes_lines => self.take(line)?,
                frame = answer.frame() => match frame {
                    Some(Ok(frame)) => {
                        self.results.extend_from_slice(&frame.into_data().unwrap_or_default());
                        if let Some(ended) = self.settle()? {
                            return Ok(ended);
                        }
                    }
                    Some(Err(error)) => return Err(CallError::Lost(error.to_string())),
                    None => return Err(CallError::Lost("the gateway ended the connection".to_owned())),
                },
                () = tokio::time::sleep(SILENCE), if !self.window.is_empty() => {
                    return Err(CallError::Lost("the gateway is silent".to_owned()));
                }
            }
        }
    }

    /// Takes a line, and those that are there with it.
    fn take(&mut self, line: io::Result<Option<Vec<u8>>>) -> Result<(), CallError> {
        let unreadable = |error: io::Error| CallError::Refused { status: hyper::StatusCode::BAD_REQUEST, message: error.to_string() };
        let mut line = line.map_err(unreadable)?;
        while let Some(text) = line {
            self.window.push(self.envelope.wrap(&text));
            line = if self.window.has_room() { self.input.ready().map_err(unreadable)? } else { None };
        }
        Ok(())
    }

    /// The next chunk of what is to be sent.
    fn gather(&mut self) -> Bytes {
        let mut chunk = BytesMut::new();
        while chunk.len() < CHUNK {
            let Some(message) = self.window.next_to_send() else { break };
            chunk.extend_from_slice(message.as_bytes());
        }
        chunk.freeze()
    }

    /// Reads the results that are whole.
    fn settle(&mut self) -> Result<Option<Ended>, CallError> {
        let foreign = || CallError::Lost("the answer is not one of a gateway".to_owned());
        while let Some(end) = self.results.iter().position(|&byte| byte == b'\n') {
            let line = self.results.split_to(end);
            self.results.advance(1);
            let answer: Answer = serde_json::from_slice(&line).map_err(|_| foreign())?;
            let known = match answer.error {
                None => self.window.acknowledge(),
                Some(Refused { message, retry_after_ms: Some(_), .. }) => return Ok(Some(Ended::Unavailable(message))),
                Some(Refused { code, message, retry_after_ms: None }) => {
                    self.progress.refused(self.window.first_line(), &format!("{code}: {message}"));
                    if code == "unknown_channel" {
                        // So would every other line.
                        return Err(CallError::Refused { status: hyper::StatusCode::NOT_FOUND, message });
                    }
                    self.window.refuse()
                }
            };
            if !known {
                return Err(foreign());
            }
        }
        self.progress.moved(self.window);
        if self.results.len() > RESULT { Err(foreign()) } else { Ok(None) }
    }
}

/// A body whose chunks are still to come. One waits while one is written: the window is where messages wait.
fn body() -> (mpsc::Sender<Bytes>, Chunks) {
    let (sender, receiver) = mpsc::channel(1);
    let chunks = stream::unfold(receiver, |mut receiver: mpsc::Receiver<Bytes>| async move {
        let chunk = receiver.recv().await?;
        Some((Ok::<_, io::Error>(Frame::data(chunk)), receiver))
    });
    (sender, StreamBody::new(Box::pin(chunks)))
}

async fn reserve(chunks: Option<&mpsc::Sender<Bytes>>) -> Option<mpsc::Permit<'_, Bytes>> {
    match chunks {
        Some(chunks) => chunks.reserve().await.ok(),
        None => std::future::pending().await,
    }
}
