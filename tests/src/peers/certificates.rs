//! An authority of the run's own and certificates by it.

use std::{
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

use crate::lab::{LabError, Party, Result, Side};

/// The name that the Teams side's certificate carries.
pub const TEAMS_NAME: &str = "sip.pstnhub.example";
/// The name that the session border controller's certificate carries.
pub const SBC_NAME: &str = "sbc.example.com";

/// Files in PEM, in the directory they were made in.
#[derive(Clone, Debug)]
pub struct Certificates {
    /// The authority's certificate.
    pub roots: PathBuf,
    pub sbc: PathBuf,
    pub sbc_key: PathBuf,
    pub teams: PathBuf,
    pub teams_key: PathBuf,
    /// The Teams side's certificate and key in one file, as baresip wants them.
    pub teams_both: PathBuf,
}

impl Certificates {
    /// Makes a fresh set.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn make(directory: &Path) -> Result<Self> {
        let mut authority = CertificateParams::default();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority
            .distinguished_name
            .push(DnType::CommonName, "Trunkline test authority");
        let key = KeyPair::generate().map_err(LabError::new)?;
        let issuer = CertifiedIssuer::self_signed(authority, key).map_err(LabError::new)?;
        let write = |name: &str, text: &str| -> Result<PathBuf> {
            let path = directory.join(name);
            fs::write(&path, text)
                .map_err(|error| LabError::new(format!("{}: {error}", path.display())))?;
            Ok(path)
        };
        let issue = |name: &str, address: IpAddr| -> Result<(String, String)> {
            let key = KeyPair::generate().map_err(LabError::new)?;
            let mut parameters = CertificateParams::new([name.to_owned(), address.to_string()])
                .map_err(LabError::new)?;
            parameters.distinguished_name.push(DnType::CommonName, name);
            let certificate = parameters.signed_by(&key, &issuer).map_err(LabError::new)?;
            Ok((certificate.pem(), key.serialize_pem()))
        };
        let (sbc, sbc_key) = issue(SBC_NAME, Party::Teams.ipv4(Side::Sbc))?;
        let (teams, teams_key) = issue(TEAMS_NAME, Party::Teams.ipv4(Side::Peer))?;
        Ok(Self {
            roots: write("roots.pem", &issuer.pem())?,
            sbc: write("sbc.pem", &sbc)?,
            sbc_key: write("sbc.key", &sbc_key)?,
            teams: write("teams.pem", &teams)?,
            teams_key: write("teams.key", &teams_key)?,
            teams_both: write("teams-both.pem", &format!("{teams}{teams_key}"))?,
        })
    }
}
