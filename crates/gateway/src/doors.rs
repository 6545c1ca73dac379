//! Who may come in, as configured; a reload changes it for those who come later.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tidegate::auth::{Admitted, Anonymous, Authenticate, Denied, Refused, UpgradeRequest};
use tidegate::message::Credential;
use tidegate::{BoxFuture, ConnectionId, Grants, Identity};

/// The ways in. Clones are handles to the same ones.
#[derive(Clone, Debug)]
pub(crate) struct Doors {
    anonymous: Arc<ArcSwap<Anonymous>>,
    /// For development: whoever is not on this machine stays outside, whatever the listener's address is.
    loopback_only: bool,
}

impl Doors {
    pub(crate) fn new(anonymous: Grants, loopback_only: bool) -> Self {
        Self { anonymous: Arc::new(ArcSwap::from_pointee(Anonymous::new(anonymous))), loopback_only }
    }

    pub(crate) fn set(&self, anonymous: Grants) {
        self.anonymous.store(Arc::new(Anonymous::new(anonymous)));
    }
}

impl Authenticate for Doors {
    fn admit<'a>(&'a self, request: &'a UpgradeRequest<'a>) -> BoxFuture<'a, Result<Admitted, Denied>> {
        if self.loopback_only && !request.address.is_loopback() {
            return Box::pin(std::future::ready(Err(Denied::Unauthorized("anonymous sessions are for this machine only"))));
        }
        let anonymous = self.anonymous.load_full();
        Box::pin(async move { anonymous.admit(request).await })
    }

    fn verify<'a>(&'a self, connection: ConnectionId, credential: Credential) -> BoxFuture<'a, Result<Arc<Identity>, Refused>> {
        let anonymous = self.anonymous.load_full();
        Box::pin(async move { anonymous.verify(connection, credential).await })
    }
}
