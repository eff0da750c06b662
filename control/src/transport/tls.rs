//! TLS of a trunk: one end for those who connect to us, one for those that we connect to.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use rustls_pki_types::CertificateDer;
use tokio_rustls::{
    TlsConnector,
    rustls::{ClientConfig, RootCertStore, ServerConfig, sign::SingleCertAndKey},
};

use super::verifier::{self, PeerVerifier};
use crate::config::{Authorities, TlsFiles, Trunk, tls_provider};

/// What trunks show and trust that have the same certificates and the same rules. It is the same
/// one over a reload that changes neither, so a connection knows by it whether it has been
/// overtaken.
pub(super) struct Ends {
    /// Unique in this process.
    pub(super) number: u64,
    terms: Terms,
    pub(super) server: Arc<ServerConfig>,
    pub(super) connector: TlsConnector,
}

#[derive(PartialEq)]
struct Terms {
    /// Our certificate and its intermediates.
    chain: Vec<CertificateDer<'static>>,
    roots: Roots,
    demands_certificate: bool,
    peer_names: Vec<Arc<str>>,
}

struct Roots(Arc<RootCertStore>);

impl PartialEq for Roots {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0.roots == other.0.roots
    }
}

impl Ends {
    /// Of the names that a peer may go by, those that a verified certificate of its holds.
    pub(super) fn names_in(&self, certificate: &CertificateDer<'_>) -> Vec<Arc<str>> {
        verifier::held(&self.terms.peer_names, certificate)
    }

    /// TLS 1.2 and 1.3, the provider's cipher suites, ECDHE only.
    fn new(files: TlsFiles, terms: Terms) -> Result<Self, String> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let resolver = Arc::new(SingleCertAndKey::from(files.identity.0));
        let provider = tls_provider();
        let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?;
        let server = if terms.demands_certificate {
            let verifier = PeerVerifier::new(
                Arc::clone(&files.roots),
                Arc::clone(&provider),
                &terms.peer_names,
            )?;
            server.with_client_cert_verifier(Arc::new(verifier))
        } else {
            server.with_no_client_auth()
        }
        .with_cert_resolver(Arc::clone(&resolver) as _);
        let client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(files.roots)
            .with_client_cert_resolver(resolver);
        Ok(Self {
            number: NEXT.fetch_add(1, Relaxed),
            terms,
            server: Arc::new(server),
            connector: TlsConnector::from(Arc::new(client)),
        })
    }
}

/// The ends of one configuration while it is being read; those of the one before serve on where
/// nothing has changed.
#[derive(Default)]
pub(super) struct Pool {
    ends: Vec<Arc<Ends>>,
    authorities: Authorities,
}

impl Pool {
    pub(super) fn of(ends: impl Iterator<Item = Arc<Ends>>) -> Self {
        Self {
            ends: ends.collect(),
            authorities: Authorities::new(),
        }
    }

    /// Reads a trunk's certificates; `None` when it has none.
    pub(super) fn ends(&mut self, trunk: &Trunk) -> Result<Option<Arc<Ends>>, String> {
        let Some(tls) = &trunk.tls else {
            return Ok(None);
        };
        let files =
            TlsFiles::read(tls, &mut self.authorities).map_err(|problem| problem.to_string())?;
        let terms = Terms {
            chain: files.identity.0.cert.clone(),
            roots: Roots(Arc::clone(&files.roots)),
            demands_certificate: tls.require_client_certificate,
            peer_names: trunk.peer_names(),
        };
        if let Some(known) = self.ends.iter().find(|ends| ends.terms == terms) {
            return Ok(Some(Arc::clone(known)));
        }
        let ends = Arc::new(Ends::new(files, terms).map_err(|error| {
            format!(
                "{} cannot verify those who connect ({error}): name the authorities that sign them",
                tls.roots.display()
            )
        })?);
        self.ends.push(Arc::clone(&ends));
        Ok(Some(ends))
    }
}
