//! Whom we let connect: the certificate that a peer shows.

use std::sync::Arc;

use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore,
    SignatureScheme,
    client::{verify_server_cert_signed_by_trust_anchor, verify_server_name},
    crypto::CryptoProvider,
    server::{
        ParsedCertificate, WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};

use super::Discard;

/// Demands a certificate that chains to the roots and holds one of the names. One whose extended
/// key usage names servers alone will do: authorities no longer issue others, and who calls us is
/// called by us, too.
#[derive(Debug)]
pub(super) struct PeerVerifier {
    chain: Arc<dyn ClientCertVerifier>,
    roots: Arc<RootCertStore>,
    provider: Arc<CryptoProvider>,
    names: Vec<ServerName<'static>>,
}

impl PeerVerifier {
    /// `names`: any of them will do; empty: any name will.
    ///
    /// # Errors
    /// When the roots or a name are of no use.
    pub(super) fn new(
        roots: Arc<RootCertStore>,
        provider: Arc<CryptoProvider>,
        names: &[Arc<str>],
    ) -> Result<Self, String> {
        let chain =
            WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider))
                .build()
                .map_err(|error| error.to_string())?;
        let names = names
            .iter()
            .map(|name| ServerName::try_from(name.to_string()).map_err(|error| error.to_string()))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            chain,
            roots,
            provider,
            names,
        })
    }

    fn verify_chain(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        let parsed = ParsedCertificate::try_from(certificate)?;
        let of_server = verify_server_cert_signed_by_trust_anchor(
            &parsed,
            &self.roots,
            intermediates,
            now,
            self.provider.signature_verification_algorithms.all,
        );
        match of_server {
            Err(Error::InvalidCertificate(
                CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. },
            )) => self
                .chain
                .verify_client_cert(certificate, intermediates, now)
                .map(|_| ()),
            other => other,
        }
    }
}

/// Which of the names a certificate holds.
pub(super) fn held(names: &[Arc<str>], certificate: &CertificateDer<'_>) -> Vec<Arc<str>> {
    let Ok(parsed) = ParsedCertificate::try_from(certificate) else {
        return Vec::new();
    };
    let holds = |name: &Arc<str>| {
        ServerName::try_from(&**name).is_ok_and(|name| verify_server_name(&parsed, &name).is_ok())
    };
    names.iter().filter(|name| holds(name)).cloned().collect()
}

/// Why a handshake failed, for those who count.
pub(super) fn reason(error: &std::io::Error) -> Discard {
    let inner = error.get_ref();
    match inner.and_then(|inner| inner.downcast_ref::<Error>()) {
        Some(Error::NoCertificatesPresented) => Discard::CertificateMissing,
        Some(Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        )) => Discard::CertificateName,
        Some(Error::InvalidCertificate(_)) => Discard::CertificateUntrusted,
        _ => Discard::HandshakeFailed,
    }
}

impl ClientCertVerifier for PeerVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chain.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.verify_chain(certificate, intermediates, now)?;
        let parsed = ParsedCertificate::try_from(certificate)?;
        let mut named = Ok(());
        for name in &self.names {
            named = verify_server_name(&parsed, name);
            if named.is_ok() {
                break;
            }
        }
        named.map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<tokio_rustls::rustls::client::danger::HandshakeSignatureValid, Error> {
        self.chain
            .verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<tokio_rustls::rustls::client::danger::HandshakeSignatureValid, Error> {
        self.chain
            .verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}
