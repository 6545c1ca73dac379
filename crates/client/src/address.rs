//! Where the gateway is, and whom to believe that it is the gateway.

use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use url::Url;

/// An address that a connection can be opened to.
#[derive(Clone, Debug)]
pub(crate) struct Address {
    pub(crate) url: Url,
    /// For `wss`.
    pub(crate) tls: Option<Arc<ClientConfig>>,
}

impl Address {
    /// Reads `ws://` or `wss://`. `roots` are PEM, to be trusted instead of what the machine trusts.
    ///
    /// # Errors
    /// Says what is wrong with either.
    pub(crate) fn read(text: &str, roots: Option<&[u8]>) -> Result<Self, String> {
        let url = Url::parse(text).map_err(|error| error.to_string())?;
        match (url.scheme(), url.host()) {
            ("ws", Some(_)) => Ok(Self { url, tls: None }),
            ("wss", Some(_)) => Ok(Self { url, tls: Some(tls(roots)?) }),
            _ => Err("it has to begin with ws:// or wss://".to_owned()),
        }
    }
}

fn tls(roots: Option<&[u8]>) -> Result<Arc<ClientConfig>, String> {
    let roots = roots.map_or_else(of_the_machine, given)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| error.to_string())?;
    Ok(Arc::new(builder.with_root_certificates(roots).with_no_client_auth()))
}

fn given(pem: &[u8]) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| format!("a certificate to trust is not PEM: {error}"))?;
        roots.add(certificate).map_err(|error| format!("a certificate to trust can't be used: {error}"))?;
    }
    if roots.is_empty() { Err("there is no certificate in what is to be trusted".to_owned()) } else { Ok(roots) }
}

/// What cannot be read is left out: machines have old certificates lying about.
fn of_the_machine() -> Result<RootCertStore, String> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    match (roots.is_empty(), found.errors.first()) {
        (false, _) => Ok(roots),
        (true, Some(error)) => Err(format!("this machine has no certificates to trust: {error}")),
        (true, None) => Err("this machine has no certificates to trust".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_of_gateways_are_addresses() {
        assert!(Address::read("ws://127.0.0.1:8000/ws", None).is_ok_and(|address| address.tls.is_none()));
        for (text, problem) in [("http://a/ws", "begin with ws://"), ("a", "relative URL"), ("ws:///", "empty host")] {
            let error = Address::read(text, None).unwrap_err();
            assert!(error.contains(problem), "{text}: {error}");
        }
    }

    #[test]
    fn what_is_to_be_trusted_is_read_before_anything_is_opened() {
        for (pem, problem) in [("", "no certificate"), ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "can't be used")]
        {
            let error = Address::read("wss://a/ws", Some(pem.as_bytes())).unwrap_err();
            assert!(error.contains(problem), "{error}");
        }
    }
}
