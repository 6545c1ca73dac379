//! `[public]` and `[internal]`: where it listens, and who may come in.

use std::net::SocketAddr;

use ipnet::IpNet;
use tidegate::Origin;

use super::schema::section;
use super::secret::Secret;

section! {
    /// What clients reach.
    Public {
        /// Where clients connect.
        listen: SocketAddr = "127.0.0.1:8000",
        /// The path of the WebSocket endpoint.
        path: String = "/ws",
        /// Web pages that may connect, as `scheme://host[:port]`. Empty refuses every browser; it never means everybody.
        origins: Vec<Origin> = "",
        /// Networks of proxies whose `X-Forwarded-For` counts.
        trusted_proxies: Vec<IpNet> = "",
        /// A certificate, to speak TLS without a proxy.
        tls: Option<Certificate> = "",
    }
}

section! {
    /// A certificate with its key, both PEM files. They are read again at a reload.
    Certificate {
        /// The certificate chain, as `file:PATH`.
        cert: PemFile = "",
        /// Its private key, as `file:PATH`.
        key: PemFile = "",
    }
}

section! {
    /// API, metrics, health.
    Internal {
        /// Where backends publish and operators look. Keep it out of reach of clients.
        listen: SocketAddr = "127.0.0.1:8001",
        /// Bearer keys, any of which opens it. Needed beyond loopback.
        keys: Vec<Secret> = "",
    }
}

/// A file named as `file:PATH`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PemFile(pub(crate) std::path::PathBuf);

impl super::schema::Setting for PemFile {
    const SHAPE: &'static str = "\"file:PATH\"";

    fn read(node: &super::tree::Node, key: &str, reader: &mut super::schema::Reader<'_>) -> Option<Self> {
        match super::values::text(node).and_then(|text| text.strip_prefix("file:")) {
            Some(path) => Some(Self(path.into())),
            None => reader.refuse(node, key, "has to name a PEM file, as \"file:PATH\""),
        }
    }
}
