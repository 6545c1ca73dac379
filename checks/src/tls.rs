//! A certificate for a test, and clients that trust it.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use bench::{Target, frames};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::gateway::Setup;

/// A self-signed certificate for `localhost` that is valid for a day.
pub struct Certificate {
    certificate: PathBuf,
    key: PathBuf,
}

impl Certificate {
    /// Makes one in `folder` with the `openssl` program.
    ///
    /// # Panics
    /// When that fails.
    pub fn make(folder: &Path) -> Self {
        let (certificate, key) = (folder.join("certificate.pem"), folder.join("key.pem"));
        let words =
            ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1", "-subj", "/CN=localhost"];
        let extensions = ["-addext", "subjectAltName=DNS:localhost", "-addext", "basicConstraints=critical,CA:FALSE"];
        let made = Command::new("openssl")
            .args(words)
            .args(extensions)
            .arg("-keyout")
            .arg(&key)
            .arg("-out")
            .arg(&certificate)
            .output()
            .expect("openssl");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        Self { certificate, key }
    }

    /// A gateway that serves with it.
    pub fn given_to(&self, setup: Setup) -> Setup {
        let file = |path: &Path| format!("file:{}", path.display());
        setup.set("public.tls.cert", &file(&self.certificate)).set("public.tls.key", &file(&self.key))
    }

    /// A connection that has subscribed to `channel` and heard that it is live.
    ///
    /// # Panics
    /// When that doesn't happen within five seconds.
    pub fn subscriber(&self, address: SocketAddr, channel: &str) -> StreamOwned<ClientConnection, TcpStream> {
        let target = Target::tidegate(address, address, channel);
        let tcp = TcpStream::connect(address).expect("a connection");
        tcp.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
        let name = ServerName::try_from("localhost").expect("a name");
        let mut stream = StreamOwned::new(ClientConnection::new(self.trusting(), name).expect("a TLS client"), tcp);
        stream.write_all(target.upgrade(0).as_bytes()).expect("a request");
        read_until(&mut stream, &target.welcome);
        let mut subscribe = Vec::new();
        frames::append(&mut subscribe, frames::TEXT, target.subscription(0).as_bytes());
        stream.write_all(&subscribe).expect("a command");
        read_until(&mut stream, &target.ready);
        stream
    }

    fn trusting(&self) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        let pem = fs::read(&self.certificate).expect("the certificate");
        roots.add(CertificateDer::from_pem_slice(&pem).expect("a certificate")).expect("a root");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let versions = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().expect("TLS versions");
        Arc::new(versions.with_root_certificates(roots).with_no_client_auth())
    }
}

fn read_until(stream: &mut impl Read, mark: &str) {
    let (mut seen, mut piece) = (Vec::new(), [0; 4096]);
    while !String::from_utf8_lossy(&seen).contains(mark) {
        let length = stream.read(&mut piece).unwrap_or_else(|e| panic!("waiting for {mark}: {e}"));
        assert!(length > 0, "ended while waiting for {mark}: {}", String::from_utf8_lossy(&seen));
        seen.extend_from_slice(&piece[..length]);
    }
}
