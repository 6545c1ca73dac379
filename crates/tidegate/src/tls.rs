//! TLS in front of the upgrade: rustls with aws-lc-rs, HTTP/1.1 only, certificates that change without losing a socket.

use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, crypto::CryptoProvider};
use tokio_rustls::TlsAcceptor;

/// Why a certificate can't be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file is missing, unreadable or not PEM.
    #[error("{file}: {source}")]
    File {
        /// Which.
        file: Box<str>,
        /// What is wrong with it.
        source: rustls::pki_types::pem::Error,
    },
    /// The file has no certificate.
    #[error("{0}: no certificate in it")]
    Empty(Box<str>),
    /// Key and certificate don't fit, or the key's kind is not supported.
    #[error(transparent)]
    Key(#[from] rustls::Error),
}

/// A listener's certificate. Clones share it: [`Tls::reload`] on one changes it for all new handshakes, open sockets live on.
#[derive(Clone, Debug)]
pub struct Tls {
    current: Arc<Current>,
    server: Arc<ServerConfig>,
}

#[derive(Debug)]
struct Current(ArcSwap<CertifiedKey>);

impl ResolvesServerCert for Current {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

impl Tls {
    /// Reads a certificate chain and its key, both PEM.
    ///
    /// # Errors
    /// Says which file is wrong and how.
    pub fn from_files(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let current = Arc::new(Current(ArcSwap::from_pointee(read(&provider, certificate, key)?)));
        let resolver: Arc<dyn ResolvesServerCert> = Arc::clone(&current) as _;
        let mut server = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(resolver);
        server.alpn_protocols = vec![b"http/1.1".to_vec()];
        // A resumed session saves a reconnecting fleet most of the handshake; two tickets per handshake (the default) serve a
        // client that opens one socket no better than one.
        server.send_tls13_tickets = 1;
        Ok(Self { current, server: Arc::new(server) })
    }

    /// Reads them anew. On an error the old ones stay.
    ///
    /// # Errors
    /// Says which file is wrong and how.
    pub fn reload(&self, certificate: &Path, key: &Path) -> Result<(), TlsError> {
        let fresh = read(self.server.crypto_provider(), certificate, key)?;
        self.current.0.store(Arc::new(fresh));
        Ok(())
    }

    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.server))
    }
}

fn read(provider: &CryptoProvider, certificate: &Path, key: &Path) -> Result<CertifiedKey, TlsError> {
    let in_file = |file: &Path| {
        let file = file.display().to_string().into();
        move |source| TlsError::File { file, source }
    };
    let chain = CertificateDer::pem_file_iter(certificate).map_err(in_file(certificate))?;
    let chain = chain.collect::<Result<Vec<_>, _>>().map_err(in_file(certificate))?;
    if chain.is_empty() {
        return Err(TlsError::Empty(certificate.display().to_string().into()));
    }
    let key = PrivateKeyDer::from_pem_file(key).map_err(in_file(key))?;
    Ok(CertifiedKey::from_der(chain, key, provider)?)
}
