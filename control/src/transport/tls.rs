//! TLS of a trunk: one end for those who connect to us, one for those that we connect to.

use std::sync::Arc;

use rustls_pki_types::CertificateDer;
use tokio_rustls::{
    TlsAcceptor, TlsConnector,
    rustls::{ClientConfig, ServerConfig, server::WebPkiClientVerifier, sign::SingleCertAndKey},
};

use crate::config::{Tls, TlsFiles, tls_provider};

pub(super) struct Ends {
    pub(super) acceptor: TlsAcceptor,
    pub(super) connector: TlsConnector,
    /// Our own certificate.
    pub(super) certificate: Option<CertificateDer<'static>>,
}

/// Reads a trunk's certificates. TLS 1.2 and 1.3, the provider's cipher suites, ECDHE only.
pub(super) fn ends(tls: &Tls) -> Result<Ends, String> {
    let files = TlsFiles::read(tls).map_err(|problem| problem.to_string())?;
    let key = Arc::clone(&files.identity.0);
    let certificate = key.cert.first().cloned();
    let resolver = Arc::new(SingleCertAndKey::from(key));
    let provider = tls_provider();

    let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let server = if tls.require_client_certificate {
        let verifier = WebPkiClientVerifier::builder_with_provider(
            Arc::clone(&files.roots),
            Arc::clone(&provider),
        )
        .build()
        .map_err(|error| {
            format!(
                "{} cannot verify clients ({error}): name the authorities that sign them",
                tls.roots.display()
            )
        })?;
        server.with_client_cert_verifier(verifier)
    } else {
        server.with_no_client_auth()
    }
    .with_cert_resolver(Arc::clone(&resolver) as _);

    let client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(files.roots)
        .with_client_cert_resolver(resolver);
    Ok(Ends {
        acceptor: TlsAcceptor::from(Arc::new(server)),
        connector: TlsConnector::from(Arc::new(client)),
        certificate,
    })
}
