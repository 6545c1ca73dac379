//! The client as a program holds it.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use serde_json::value::RawValue;
use tidegate_core::message::{self, Publish};
use tidegate_core::{Body, ChannelKind, ChannelName};
use tokio::sync::{mpsc, oneshot};
use ulid::Ulid;

use crate::address::Address;
use crate::driver::{Driver, Order};
use crate::error::Error;
use crate::event::Published;
use crate::machine::{Command, Reply};
use crate::subscription::SubscribeBuilder;

/// How long a command waits for its reply, across reconnects.
const COMMAND_WITHIN: Duration = Duration::from_secs(30);

/// A client. Clones are handles to the same one; it closes when the last of them and of its subscriptions is dropped.
#[derive(Clone, Debug)]
pub struct Client {
    orders: mpsc::UnboundedSender<Order>,
    references: Arc<AtomicU64>,
}

/// Proof of who the client is.
#[derive(Clone, PartialEq, Eq)]
pub enum Credential {
    /// A single-use ticket, sent in the query of the upgrade.
    Ticket(String),
    /// A token, which answers the server's challenge.
    Token(String),
}

impl fmt::Debug for Credential {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Ticket(_) => "Ticket(…)",
            Self::Token(_) => "Token(…)",
        })
    }
}

/// Why a credential is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// 1 for the first try since a connection was last stable.
    pub number: u32,
    /// `connect`, `reconnect`, or what the server said: `expired`, `revoked`, `expiring`, …
    pub reason: Box<str>,
}

/// Fetches credentials.
pub(crate) type Source = Arc<dyn Fn(Attempt) -> Pin<Box<dyn Future<Output = Result<Credential, Box<str>>> + Send>> + Send + Sync>;

/// What a client is made from.
pub struct Builder {
    url: String,
    source: Option<Source>,
    roots: Option<Vec<u8>>,
}

impl fmt::Debug for Builder {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Builder").field("authenticates", &self.source.is_some()).finish_non_exhaustive()
    }
}

impl Builder {
    /// Who fetches a credential before every connection, and whenever the server wants a fresh one. Without it the client is
    /// anonymous. A failure counts as a failed try.
    #[must_use]
    pub fn auth<A, F, E>(mut self, fetch: A) -> Self
    where
        A: Fn(Attempt) -> F + Send + Sync + 'static,
        F: Future<Output = Result<Credential, E>> + Send + 'static,
        E: fmt::Display,
    {
        self.source = Some(Arc::new(move |attempt| {
            let fetched = fetch(attempt);
            Box::pin(async move { fetched.await.map_err(|error| error.to_string().into()) })
        }));
        self
    }

    /// Trusts the certificates in this PEM text, and not those that the machine trusts: for `wss://` behind an authority of
    /// one's own.
    #[must_use]
    pub fn trust(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.roots = Some(pem.into());
        self
    }

    /// Starts it, in the current tokio runtime. It connects at once; an address that isn't one stops it at once, and so does
    /// `wss://` where there is no certificate to trust.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn build(self) -> Client {
        let (orders, received) = mpsc::unbounded_channel();
        let address = Address::read(&self.url, self.roots.as_deref());
        tokio::spawn(Driver::new(address, self.source, received).run());
        Client { orders, references: Arc::default() }
    }
}

impl Client {
    /// Begins to build a client of the gateway at this address, as `wss://gateway.example/ws` or `ws://127.0.0.1:8000/ws`.
    pub fn builder(url: impl Into<String>) -> Builder {
        Builder { url: url.into(), source: None, roots: None }
    }

    /// A channel of kind `event`: loss is allowed, and told.
    pub fn event(&self, channel: impl Into<Box<str>>) -> SubscribeBuilder {
        SubscribeBuilder::new(self.clone(), channel.into(), Some(ChannelKind::Event))
    }

    /// A channel of kind `log`: everything arrives, once and in order.
    pub fn log(&self, channel: impl Into<Box<str>>) -> SubscribeBuilder {
        SubscribeBuilder::new(self.clone(), channel.into(), Some(ChannelKind::Log))
    }

    /// A channel of kind `state`: a snapshot, then the latest of each key.
    pub fn state(&self, channel: impl Into<Box<str>>) -> SubscribeBuilder {
        SubscribeBuilder::new(self.clone(), channel.into(), Some(ChannelKind::State))
    }

    /// A channel of whatever kind it is.
    pub fn channel(&self, channel: impl Into<Box<str>>) -> SubscribeBuilder {
        SubscribeBuilder::new(self.clone(), channel.into(), None)
    }

    /// Publishes a message. It gets an id, by which repetitions across reconnects are recognised, and waits for up to 30 s.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn publish(&self, channel: impl Into<Box<str>>, data: &(impl Serialize + ?Sized)) -> Result<Published, Error> {
        self.publish_as(channel, None, &Ulid::new().to_string(), Some(data)).await
    }

    /// Publishes the latest of a key of a `state` channel; no data deletes it.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn publish_key(
        &self,
        channel: impl Into<Box<str>>,
        key: &str,
        data: Option<&(impl Serialize + ?Sized)>,
    ) -> Result<Published, Error> {
        self.publish_as(channel, Some(key), &Ulid::new().to_string(), data).await
    }

    /// Publishes with a message id of the caller's, for repetitions after an [`Error::Timeout`].
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn publish_as(
        &self,
        channel: impl Into<Box<str>>,
        key: Option<&str>,
        message_id: &str,
        data: Option<&(impl Serialize + ?Sized)>,
    ) -> Result<Published, Error> {
        let publish = Publish {
            channel: ChannelName::new(&channel.into()).map_err(Error::Channel)?,
            message_id: Some(message_id.into()),
            key: key.map(Into::into),
            body: data.map_or(Ok(Body::Deleted), |data| json(data).map(Body::Data))?,
        };
        match self.command(Command::Publish(publish)).await? {
            Reply::Published(published) => Ok(published),
            Reply::Ok | Reply::Response(_) => Err(Error::Timeout),
        }
    }

    /// Asks the team's backend; the answer is JSON.
    ///
    /// # Errors
    /// See [`Error`]. After [`Error::Timeout`] it can't be known whether the backend did it.
    pub async fn request(&self, method: &str, data: &(impl Serialize + ?Sized)) -> Result<Box<RawValue>, Error> {
        match self.command(Command::Request { method: method.into(), data: json(data)? }).await? {
            Reply::Response(data) => Ok(data),
            Reply::Ok | Reply::Published(_) => Err(Error::Timeout),
        }
    }

    /// Closes the connection and ends every subscription.
    pub fn close(&self) {
        self.order(Order::Close);
    }

    async fn command(&self, command: Command) -> Result<Reply, Error> {
        let (reply, replied) = oneshot::channel();
        let timeout_ms = u64::try_from(COMMAND_WITHIN.as_millis()).unwrap_or(u64::MAX);
        self.order(Order::Command { reference: self.next_reference(), command, timeout_ms, reply });
        replied.await.unwrap_or(Err(Error::Timeout))
    }

    pub(crate) fn order(&self, order: Order) {
        // The driver ends only when nobody is left to order anything, or with its runtime.
        drop(self.orders.send(order));
    }

    pub(crate) fn next_reference(&self) -> u64 {
        self.references.fetch_add(1, Ordering::Relaxed)
    }
}

fn json(data: &(impl Serialize + ?Sized)) -> Result<Bytes, Error> {
    serde_json::to_vec(data).map(Bytes::from).map_err(|error| Error::Data(error.to_string().into()))
}

impl From<Credential> for message::Credential {
    fn from(credential: Credential) -> Self {
        match credential {
            Credential::Token(token) => Self::Token(token.into()),
            Credential::Ticket(ticket) => Self::Ticket(ticket.into()),
        }
    }
}
