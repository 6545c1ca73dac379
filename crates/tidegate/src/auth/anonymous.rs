//! Everybody is nobody: sessions without a name, with the grants that the configuration gives to such.

use std::sync::Arc;

use tidegate_core::broker::BoxFuture;
use tidegate_core::message::Credential;
use tidegate_core::{ConnectionId, Grants, Identity};

use super::{Admitted, Authenticate, Denied, Refused, UpgradeRequest};

/// Lets everyone in with the same grants; without any grant, nobody.
#[derive(Clone, Debug)]
pub struct Anonymous {
    identity: Arc<Identity>,
}

impl Anonymous {
    /// Sessions without a name may do this.
    pub fn new(grants: Grants) -> Self {
        Self { identity: Arc::new(Identity { grants, ..Identity::default() }) }
    }
}

impl Authenticate for Anonymous {
    fn admit<'a>(&'a self, _request: &'a UpgradeRequest<'a>) -> BoxFuture<'a, Result<Admitted, Denied>> {
        let admitted = if self.identity.grants.is_empty() {
            Err(Denied::Unauthorized("a credential is required"))
        } else {
            Ok(Admitted::Identified(Arc::clone(&self.identity)))
        };
        Box::pin(std::future::ready(admitted))
    }

    fn verify<'a>(&'a self, _connection: ConnectionId, _credential: Credential) -> BoxFuture<'a, Result<Arc<Identity>, Refused>> {
        Box::pin(std::future::ready(Err(Refused::Bad)))
    }
}
