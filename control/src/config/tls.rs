//! The certificates that a trunk names, read and checked. Keys never leave this type's inside but
//! to rustls.

use std::{
    collections::HashMap,
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use tokio_rustls::rustls::{
    RootCertStore,
    crypto::{CryptoProvider, ring},
    sign::CertifiedKey,
};

use super::{trunk::Tls, values::REMEDY};

/// What a TLS trunk's files hold. Its `Debug` form shows no key.
#[derive(Clone)]
pub(crate) struct TlsFiles {
    /// Our certificate with its key.
    pub(crate) identity: ClientIdentity,
    /// The authorities that may have signed the peer's certificate.
    pub(crate) roots: Arc<RootCertStore>,
}

/// A certificate chain and its key.
#[derive(Clone)]
pub(crate) struct ClientIdentity(pub(crate) Arc<CertifiedKey>);

impl fmt::Debug for TlsFiles {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("TlsFiles")
            .field("certificates", &self.identity.0.cert.len())
            .field("roots", &self.roots.len())
            .finish_non_exhaustive()
    }
}

/// Which key of `[trunk.tls]` is wrong, and how, as "what\nwhat to do".
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TlsProblem {
    pub(crate) key: &'static str,
    pub(crate) text: String,
}

impl fmt::Display for TlsProblem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text.replace(REMEDY, ": "))
    }
}

/// The provider of cryptography that every TLS connection uses.
pub(crate) fn tls_provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// Authorities that were read, by their file: many trunks name the same.
pub(crate) type Authorities = HashMap<PathBuf, Arc<RootCertStore>>;

impl TlsFiles {
    /// Reads the files, of the authorities only those that `known` has not.
    ///
    /// # Errors
    /// The first file that is missing, is not PEM, or does not fit the others.
    pub(crate) fn read(tls: &Tls, known: &mut Authorities) -> Result<Self, TlsProblem> {
        let certificates = read_certificates(&tls.certificate, "certificate")?;
        let key = PrivateKeyDer::from_pem_file(&tls.key).map_err(|error| TlsProblem {
            key: "key",
            text: format!(
                "no private key in {} ({}){REMEDY}name a PEM file with an unencrypted PKCS#8, PKCS#1 or SEC1 key that this user may read",
                tls.key.display(),
                pem_error(&error)
            ),
        })?;
        let identity =
            CertifiedKey::from_der(certificates, key, &tls_provider()).map_err(|error| TlsProblem {
                key: "key",
                text: format!(
                    "the key in {} does not serve with the certificate in {} ({error}){REMEDY}name the key that the certificate was made for",
                    tls.key.display(),
                    tls.certificate.display()
                ),
            })?;
        let roots = match known.get(&tls.roots) {
            Some(roots) => Arc::clone(roots),
            None => {
                let roots = Arc::new(read_roots(&tls.roots)?);
                known.insert(tls.roots.clone(), Arc::clone(&roots));
                roots
            }
        };
        Ok(Self {
            identity: ClientIdentity(Arc::new(identity)),
            roots,
        })
    }
}

fn read_roots(path: &Path) -> Result<RootCertStore, TlsProblem> {
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(read_certificates(path, "roots")?);
    if added == 0 {
        return Err(TlsProblem {
            key: "roots",
            text: format!(
                "no usable authority in {}{REMEDY}name a PEM file with the authorities' certificates",
                path.display()
            ),
        });
    }
    Ok(roots)
}

fn read_certificates(
    path: &Path,
    key: &'static str,
) -> Result<Vec<CertificateDer<'static>>, TlsProblem> {
    let wrong = |why: String| TlsProblem {
        key,
        text: format!(
            "no certificate in {} ({why}){REMEDY}name a PEM file with certificates that this user may read",
            path.display()
        ),
    };
    let certificates: Vec<_> = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|error| wrong(pem_error(&error)))?;
    if certificates.is_empty() {
        return Err(wrong("the file holds none".to_owned()));
    }
    Ok(certificates)
}

/// Says what failed without a word of the file's content.
fn pem_error(error: &rustls_pki_types::pem::Error) -> String {
    use rustls_pki_types::pem::Error;
    match error {
        Error::Io(error) => error.to_string(),
        Error::NoItemsFound => "the file holds none".to_owned(),
        _ => "not PEM".to_owned(),
    }
}
