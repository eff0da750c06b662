//! The authority that the twin trusts, and certificates by it and by a stranger.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, OnceLock},
};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair,
};
use rustls::RootCertStore;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

use crate::lab::{LabError, Result};

/// A certificate with its chain and its key.
#[derive(Debug)]
pub struct Identity {
    /// The certificate, then the intermediate.
    pub chain: Vec<CertificateDer<'static>>,
    chain_pem: String,
    key_pem: String,
}

impl Identity {
    /// The key, as rustls wants it.
    ///
    /// # Errors
    /// When it is none.
    pub fn key(&self) -> Result<PrivateKeyDer<'static>> {
        PrivateKeyDer::from_pem_slice(self.key_pem.as_bytes()).map_err(LabError::new)
    }

    /// Writes `NAME.pem`, the intermediate behind the certificate, and `NAME.key`.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn write(&self, directory: &Path, name: &str) -> Result<[PathBuf; 2]> {
        let chain = write(&directory.join(format!("{name}.pem")), &self.chain_pem)?;
        let key = write(&directory.join(format!("{name}.key")), &self.key_pem)?;
        Ok([chain, key])
    }
}

/// What a certificate is to say.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    pub common_name: &'a str,
    /// The DNS names of its subjectAltName; none: it has none.
    pub alternatives: &'a [&'a str],
    /// What it may be used for; empty: it does not say.
    pub usages: &'a [ExtendedKeyUsagePurpose],
}

/// A root and an intermediate that signs.
#[derive(Debug)]
pub struct Authority {
    root: CertifiedIssuer<'static, KeyPair>,
    intermediate: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    /// # Errors
    /// When no key can be made.
    pub fn new(name: &str) -> Result<Self> {
        let parameters = |name: String| {
            let mut parameters = CertificateParams::default();
            parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            parameters.distinguished_name.push(DnType::CommonName, name);
            parameters
        };
        let key = || KeyPair::generate().map_err(LabError::new);
        let root = CertifiedIssuer::self_signed(parameters(format!("{name} root")), key()?)
            .map_err(LabError::new)?;
        let intermediate =
            CertifiedIssuer::signed_by(parameters(format!("{name} intermediate")), key()?, &root)
                .map_err(LabError::new)?;
        Ok(Self { root, intermediate })
    }

    /// The root, for rustls.
    ///
    /// # Errors
    /// When it is none.
    pub fn roots(&self) -> Result<Arc<RootCertStore>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.root.der().clone()).map_err(LabError::new)?;
        Ok(Arc::new(roots))
    }

    /// Writes the root alone.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write_roots(&self, directory: &Path) -> Result<PathBuf> {
        write(&directory.join("roots.pem"), &self.root.pem())
    }

    /// A certificate with an RSA key, as ECDHE-RSA wants it. Equal `owner`s share a key.
    ///
    /// # Errors
    /// When OpenSSL makes no key.
    pub fn issue(&self, owner: Owner, wanted: &Wanted<'_>) -> Result<Identity> {
        let key_pem = owner.key()?;
        let key = KeyPair::from_pem(key_pem).map_err(LabError::new)?;
        let alternatives: Vec<String> = wanted
            .alternatives
            .iter()
            .map(|&name| name.to_owned())
            .collect();
        let mut parameters = CertificateParams::new(alternatives).map_err(LabError::new)?;
        parameters
            .distinguished_name
            .push(DnType::CommonName, wanted.common_name);
        parameters.extended_key_usages = wanted.usages.to_vec();
        let certificate = parameters
            .signed_by(&key, &self.intermediate)
            .map_err(LabError::new)?;
        Ok(Identity {
            chain: vec![certificate.der().clone(), self.intermediate.der().clone()],
            chain_pem: format!("{}{}", certificate.pem(), self.intermediate.pem()),
            key_pem: key_pem.to_owned(),
        })
    }
}

/// Whose key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    Teams,
    Sbc,
}

impl Owner {
    /// An RSA key in PKCS #8, made once in a process: ring makes none.
    fn key(self) -> Result<&'static str> {
        static KEYS: [OnceLock<std::result::Result<String, String>>; 2] =
            [OnceLock::new(), OnceLock::new()];
        KEYS[self as usize]
            .get_or_init(|| {
                let output = Command::new("openssl")
                    .args(["genpkey", "-quiet", "-algorithm", "RSA"])
                    .args(["-pkeyopt", "rsa_keygen_bits:2048"])
                    .output()
                    .map_err(|error| format!("openssl: {error}: run `cargo xtask setup`"))?;
                if !output.status.success() {
                    return Err(format!(
                        "openssl genpkey: {}",
                        String::from_utf8_lossy(&output.stderr)
                    ));
                }
                String::from_utf8(output.stdout).map_err(|error| error.to_string())
            })
            .as_deref()
            .map_err(LabError::new)
    }
}

fn write(path: &Path, text: &str) -> Result<PathBuf> {
    fs::write(path, text).map_err(|error| LabError::new(format!("{}: {error}", path.display())))?;
    Ok(path.to_owned())
}
