//! What carries a connection's bytes: TCP, or TLS over it.

use std::io::{self, ErrorKind, Read, Write};
use std::path::Path;
use std::sync::Arc;

use mio::net::TcpStream;
use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{self, cipher_suite, kx_group};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::version::TLS13;
use rustls::{ClientConfig, ClientConnection, RootCertStore};

/// The name that the server's certificate is for.
const NAME: &str = "localhost";

/// How TLS is spoken: 1.3, X25519 and AES-128-GCM with every server, trusting one certificate, each handshake a full one.
#[derive(Clone, Debug)]
pub struct Tls(Arc<ClientConfig>);

impl Tls {
    /// Trusts the certificate in this PEM file, and no other.
    ///
    /// # Errors
    /// When the file can't be read or holds none that can be trusted.
    pub fn trusting(certificate: &Path) -> io::Result<Self> {
        let refused = |reason: String| io::Error::new(ErrorKind::InvalidInput, format!("{}: {reason}", certificate.display()));
        let mut roots = RootCertStore::empty();
        let only = CertificateDer::from_pem_file(certificate).map_err(|e| refused(e.to_string()))?;
        roots.add(only).map_err(|e| refused(e.to_string()))?;
        let (kx_groups, cipher_suites) = (vec![kx_group::X25519], vec![cipher_suite::TLS13_AES_128_GCM_SHA256]);
        let provider = CryptoProvider { kx_groups, cipher_suites, ..aws_lc_rs::default_provider() };
        let versions = ClientConfig::builder_with_provider(Arc::new(provider)).with_protocol_versions(&[&TLS13]);
        let mut config = versions.map_err(|e| refused(e.to_string()))?.with_root_certificates(roots).with_no_client_auth();
        config.resumption = Resumption::disabled();
        Ok(Self(Arc::new(config)))
    }

    fn connection(&self) -> io::Result<ClientConnection> {
        let name = ServerName::try_from(NAME).map_err(io::Error::other)?;
        ClientConnection::new(Arc::clone(&self.0), name).map_err(io::Error::other)
    }
}

/// Carries a connection's bytes, without ever waiting.
pub(crate) struct Wire {
    tcp: TcpStream,
    tls: Option<Box<ClientConnection>>,
}

impl Wire {
    pub(crate) fn new(tcp: TcpStream, tls: Option<&Tls>) -> io::Result<Self> {
        let tls = tls.map(|tls| tls.connection().map(Box::new)).transpose()?;
        Ok(Self { tcp, tls })
    }

    pub(crate) const fn tcp(&self) -> &TcpStream {
        &self.tcp
    }

    pub(crate) const fn tcp_mut(&mut self) -> &mut TcpStream {
        &mut self.tcp
    }

    /// Whether a read that is shorter than it could be says that no more is there.
    pub(crate) const fn tells_its_end(&self) -> bool {
        self.tls.is_none()
    }
}

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(tls) = &mut self.tls else { return self.tcp.read(buffer) };
        loop {
            match tls.reader().read(buffer) {
                Err(e) if e.kind() == ErrorKind::WouldBlock => {}
                // It ended TCP without a goodbye: an end like any other.
                Err(e) if e.kind() == ErrorKind::UnexpectedEof => return Ok(0),
                outcome => return outcome,
            }
            tls.read_tls(&mut self.tcp)?;
            let understood = tls.process_new_packets();
            // An answer of the handshake, or an alert.
            send(tls, &mut self.tcp)?;
            understood.map_err(io::Error::other)?;
        }
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.tls {
            None => self.tcp.write(bytes),
            Some(tls) => tls.writer().write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.tls.as_mut().map_or(Ok(()), |tls| send(tls, &mut self.tcp))
    }
}

/// Sends what TLS has to send, as far as the socket takes it.
fn send(tls: &mut ClientConnection, tcp: &mut TcpStream) -> io::Result<()> {
    while tls.wants_write() {
        match tls.write_tls(tcp) {
            Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(()),
            outcome => outcome.map(drop)?,
        }
    }
    Ok(())
}
