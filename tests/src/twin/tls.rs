//! TLS as Teams has it: 1.2 and 1.3, ECDHE-RSA with AES-GCM, a certificate from both sides.

use std::sync::Arc;

use rustls::{
    CipherSuite, ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme,
    SupportedProtocolVersion,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, ring},
    server::WebPkiClientVerifier,
    version::{TLS12, TLS13},
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::{
    authority::Identity,
    names::{covers, names},
};
use crate::lab::{LabError, Result};

/// The suites of TLS 1.2 that Teams lists and that this TLS library has; it has none with CBC.
pub const SUITES: [CipherSuite; 2] = [
    CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
    CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
];

/// Both versions.
pub const VERSIONS: [&SupportedProtocolVersion; 2] = [&TLS13, &TLS12];

fn provider(suites: &[CipherSuite]) -> Arc<CryptoProvider> {
    let mut provider = ring::default_provider();
    provider
        .cipher_suites
        .retain(|suite| suites.contains(&suite.suite()) || suite.version() == &TLS13);
    Arc::new(provider)
}

/// For connections that the SBC opens: it has to show a certificate by one of `roots`.
///
/// # Errors
/// When rustls refuses the certificate or its key.
pub fn server(
    identity: &Identity,
    roots: &Arc<RootCertStore>,
    versions: &[&'static SupportedProtocolVersion],
) -> Result<Arc<ServerConfig>> {
    let provider = provider(&SUITES);
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::clone(roots), Arc::clone(&provider))
            .build()
            .map_err(LabError::new)?;
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .map_err(LabError::new)?
        .with_client_cert_verifier(verifier)
        .with_single_cert(identity.chain.clone(), identity.key()?)
        .map_err(LabError::new)?;
    Ok(Arc::new(config))
}

/// For connections to the SBC. `identity` is what is shown when it asks, if anything.
///
/// # Errors
/// When rustls refuses the certificate or its key.
pub fn client(
    identity: Option<&Identity>,
    roots: &Arc<RootCertStore>,
    versions: &[&'static SupportedProtocolVersion],
    suites: &[CipherSuite],
) -> Result<Arc<ClientConfig>> {
    let provider = provider(suites);
    let inner =
        WebPkiServerVerifier::builder_with_provider(Arc::clone(roots), Arc::clone(&provider))
            .build()
            .map_err(LabError::new)?;
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .map_err(LabError::new)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Verifier { inner }));
    let config = match identity {
        Some(identity) => builder
            .with_client_auth_cert(identity.chain.clone(), identity.key()?)
            .map_err(LabError::new)?,
        None => builder.with_no_client_auth(),
    };
    Ok(Arc::new(config))
}

/// The chain as rustls checks it; the name in subjectAltName or in the subject's common name, which
/// rustls leaves aside.
#[derive(Debug)]
struct Verifier {
    inner: Arc<WebPkiServerVerifier>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> std::result::Result<ServerCertVerified, rustls::Error> {
        let verified =
            self.inner
                .verify_server_cert(certificate, intermediates, server_name, ocsp, now);
        match verified {
            Err(rustls::Error::InvalidCertificate(
                rustls::CertificateError::NotValidForName
                | rustls::CertificateError::NotValidForNameContext { .. },
            )) if covers(&names(certificate), &server_name.to_str()) => {
                Ok(ServerCertVerified::assertion())
            }
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        self.inner
            .verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        self.inner
            .verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// A ClientHello of TLS 1.1 (RFC 4346), which both sides have to turn down: record, handshake
/// header, version, random, no session, one suite of that time, no compression, and the extensions
/// without which a hello is not looked at: groups, point formats, signature algorithms.
#[must_use]
pub fn hello_of_tls_1_1() -> Vec<u8> {
    let mut hello = vec![0x03, 0x02];
    hello.extend([0x5a; 32]);
    hello.push(0);
    hello.extend([0x00, 0x02, 0xc0, 0x14]);
    hello.extend([0x01, 0x00]);
    hello.extend([0, 22]);
    hello.extend([0, 10, 0, 4, 0, 2, 0, 23]);
    hello.extend([0, 11, 0, 2, 1, 0]);
    hello.extend([0, 13, 0, 4, 0, 2, 4, 1]);
    let length = u8::try_from(hello.len()).unwrap_or(u8::MAX);
    let mut record = vec![0x16, 0x03, 0x01, 0x00, length + 4, 0x01, 0x00, 0x00, length];
    record.extend(hello);
    record
}
