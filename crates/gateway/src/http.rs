//! HTTP as the command-line tools speak it: to the gateway's API, on one connection, with a body that may go on while answers come.

use std::io;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Body, Frame, Incoming};
use hyper::client::conn::http1;
use hyper::{Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::cli::Api;

/// Time to connect, and for the head of an answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// The most of a refusal's body that is read.
const REFUSAL: usize = 64 * 1024;

/// A body of chunks that are still to come.
pub(crate) type Chunks = StreamBody<Pin<Box<dyn Stream<Item = Result<Frame<Bytes>, io::Error>> + Send>>>;

/// Why there is no good answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    /// There is nobody, or the connection broke: worth another try.
    #[error("{0}")]
    Lost(String),
    /// The gateway says no.
    #[error("HTTP {status}: {message}")]
    Refused {
        /// Its status.
        status: StatusCode,
        /// What it says.
        message: String,
    },
}

impl CallError {
    fn lost(error: impl std::fmt::Display) -> Self {
        Self::Lost(error.to_string())
    }

    /// Whether the same call may succeed later.
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            Self::Lost(_) => true,
            Self::Refused { status, .. } => status.is_server_error() || *status == StatusCode::TOO_MANY_REQUESTS,
        }
    }
}

/// Posts nothing.
pub(crate) async fn post_empty(api: &Api, path: &str) -> Result<(), CallError> {
    post(api, path, "application/json", Full::new(Bytes::new())).await.map(drop)
}

/// Posts a body; the answer's body is still to come.
pub(crate) async fn post<B>(api: &Api, path: &str, media: &str, body: B) -> Result<Incoming, CallError>
where
    B: Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + Unpin + 'static,
{
    let request = request(api, path, media, body).map_err(CallError::lost)?;
    let answered = tokio::time::timeout(ANSWER_WITHIN, exchange(api, request)).await;
    let response = answered.map_err(|_| CallError::lost("no answer in time"))??;
    if response.status().is_success() {
        return Ok(response.into_body());
    }
    Err(refused(response).await)
}

fn request<B>(api: &Api, path: &str, media: &str, body: B) -> Result<Request<B>, hyper::http::Error> {
    let base = api.api.path().trim_end_matches('/');
    let mut request = Request::post(format!("{base}{path}")).header(header::HOST, api.api.authority()).header(header::CONTENT_TYPE, media);
    if let Some(key) = &api.api_key {
        request = request.header(header::AUTHORIZATION, format!("Bearer {}", key.0));
    }
    request.body(body)
}

async fn exchange<B>(api: &Api, request: Request<B>) -> Result<Response<Incoming>, CallError>
where
    B: Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + Unpin + 'static,
{
    let host = api.api.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    let port = api.api.port_or_known_default().unwrap_or(80);
    let stream = TcpStream::connect((host.as_str(), port)).await.map_err(|error| CallError::Lost(format!("{}: {error}", api.api)))?;
    stream.set_nodelay(true).map_err(CallError::lost)?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(CallError::lost)?;
    // It ends with the exchange; how, the exchange's own result tells.
    tokio::spawn(connection);
    sender.send_request(request).await.map_err(CallError::lost)
}

async fn refused(response: Response<Incoming>) -> CallError {
    let status = response.status();
    let body = http_body_util::Limited::new(response.into_body(), REFUSAL).collect().await;
    let text = body.map(|body| String::from_utf8_lossy(&body.to_bytes()).into_owned()).unwrap_or_default();
    let said = serde_json::from_str::<serde_json::Value>(&text).ok();
    let message = said.and_then(|said| said["message"].as_str().map(str::to_owned)).unwrap_or(text);
    CallError::Refused { status, message }
}
