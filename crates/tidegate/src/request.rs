//! Questions of clients (`request`) to the team's own code.

use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use tidegate_core::broker::BoxFuture;
use tidegate_core::{ErrorCode, Identity};

use tidegate_core::ConnectionId;

/// A client's question.
#[derive(Clone, Debug)]
pub struct Request {
    /// The connection it came on.
    pub connection: ConnectionId,
    /// Who asks.
    pub identity: Arc<Identity>,
    /// What is asked for; the team's own vocabulary.
    pub method: Box<str>,
    /// JSON.
    pub data: Bytes,
}

/// The answer as JSON, or a code and a text that the client gets.
pub type Response = Result<Bytes, (ErrorCode, Box<str>)>;

/// Answers questions. Any `async` function from [`Request`] to [`Response`] does.
pub trait HandleRequest: Send + Sync + 'static {
    /// Answers one. As many run at once as `Concurrency::commands` says.
    fn handle(&self, request: Request) -> BoxFuture<'_, Response>;
}

impl<H, F> HandleRequest for H
where
    H: Fn(Request) -> F + Send + Sync + 'static,
    F: Future<Output = Response> + Send + 'static,
{
    fn handle(&self, request: Request) -> BoxFuture<'_, Response> {
        Box::pin(self(request))
    }
}
