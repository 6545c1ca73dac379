//! Who connects: the door by which an embedder, or one of the ready-made ways in, says who a client is.

mod anonymous;

use std::net::IpAddr;
use std::sync::Arc;

use http::{HeaderMap, Uri};
use tidegate_core::broker::BoxFuture;
use tidegate_core::message::Credential;
use tidegate_core::{CloseCode, ConnectionId, Identity};

pub use anonymous::Anonymous;

/// Says who a client is, at the upgrade and whenever it presents a credential on the open connection.
pub trait Authenticate: Send + Sync + 'static {
    /// Looks at the upgrade request. Its origin has been checked; nothing has been answered yet.
    fn admit<'a>(&'a self, request: &'a UpgradeRequest<'a>) -> BoxFuture<'a, Result<Admitted, Denied>>;

    /// Checks a credential of an open connection: the first, or a later one that extends or changes its authority. Subscriptions that
    /// the new identity has no grant for end; what was on its way in one write still arrives before the client is told (less than
    /// 64 KiB and one message more, and what the kernel holds). Refusing closes the connection, which keeps that back.
    fn verify<'a>(&'a self, connection: ConnectionId, credential: Credential) -> BoxFuture<'a, Result<Arc<Identity>, Refused>>;
}

/// What an upgrade request says, for [`Authenticate::admit`].
#[derive(Debug)]
pub struct UpgradeRequest<'a> {
    /// The id that the connection will have.
    pub connection: ConnectionId,
    /// The client's address, past trusted proxies.
    pub address: IpAddr,
    /// The request's path and query.
    pub uri: &'a Uri,
    /// Its headers.
    pub headers: &'a HeaderMap,
    /// Whether a page of an allowed origin sent it. Credentials that a browser adds by itself (cookies) count only then.
    pub from_page: bool,
}

/// How a connection is let in.
#[derive(Clone, Debug)]
pub enum Admitted {
    /// It is known who it is.
    Identified(Arc<Identity>),
    /// It may say who it is within `limits.authenticate`.
    Unidentified,
}

/// Why an upgrade is not let in. The texts go to the client: no secrets, no internals.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Denied {
    /// 401: no credential, or one that is spent, expired or unknown.
    Unauthorized(&'static str),
    /// 403: known, and not allowed here.
    Forbidden(&'static str),
    /// 503: whoever would know can't be asked.
    Unavailable(&'static str),
}

/// Why a credential on an open connection is not good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Its time is over: closes with 4201.
    Expired,
    /// Anything else: closes with 4401.
    Bad,
    /// Whoever would know can't be asked: closes with 4100, and the client comes back.
    Unavailable,
}

impl Refused {
    pub(crate) const fn code(self) -> CloseCode {
        match self {
            Self::Expired => CloseCode::Expired,
            Self::Bad => CloseCode::BadCredentials,
            Self::Unavailable => CloseCode::Internal,
        }
    }
}
