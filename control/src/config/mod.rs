//! The configuration file: its shape, what is wrong with it, and its reference.

mod authentication;
mod destination;
mod document;
mod error;
mod media;
mod numbers;
mod options;
mod reference;
mod settings;
mod signalling;
mod tls;
mod trunk;
mod validate;
mod values;

pub use crate::sip::Transport;
pub use authentication::{Authentication, Credentials, Registration, Secret, User};
pub use destination::{Destination, Found, Question, Rank, WeightedAddress};
pub use error::{ConfigError, Problem};
pub use media::relay_config;
pub use numbers::{Form, Numbers};
pub use options::Options;
pub use reference::reference;
pub use settings::{
    ADMIN_SOCKET, Admin, CallLimits, Interface, Limits, Log, Media, Route, Settings, Tenant,
    XdpMode,
};
pub use signalling::{Caller, Forwarding, Offers, Profile, Ringback, Signalling};
pub(crate) use tls::{Authorities, TlsFiles, tls_provider};
pub use trunk::{Hold, Ice, Latching, Srtp, Tls, Trunk};
pub use values::{Host, HostName, Pattern, PortRange, TrunkAddress};

use std::{fs::File, io::Read, path::Path};

use zeroize::Zeroizing;

use document::Document;

/// The largest file that is read, in octets.
const FILE_OCTETS: u64 = 4 << 20;

/// Reads a configuration file and finds out whether it makes sense, the certificates that it
/// names included. Nothing is looked up in DNS.
///
/// # Errors
/// Everything that is wrong with it, by line.
pub fn load(path: &Path) -> Result<Settings, ConfigError> {
    let fail = |what: String, remedy: &str| ConfigError {
        file: path.to_owned(),
        problems: vec![Problem {
            line: None,
            what,
            remedy: remedy.to_owned(),
        }],
    };
    let cannot = |error: std::io::Error| {
        fail(
            format!("cannot be read ({error})"),
            "name a file that exists and that this user may read",
        )
    };
    let file = File::open(path).map_err(cannot)?;
    // A device says that it has none.
    let octets = file.metadata().map_err(cannot)?.len().min(FILE_OCTETS);
    // There may be passwords in it, so it has room from the beginning and leaves no copy behind.
    let mut text = Zeroizing::new(String::with_capacity(octets as usize + 1));
    file.take(FILE_OCTETS + 1)
        .read_to_string(&mut text)
        .map_err(cannot)?;
    if text.len() as u64 > FILE_OCTETS {
        return Err(fail(
            format!("has more than {FILE_OCTETS} octets"),
            "name a Trunkline configuration",
        ));
    }
    parse(&text, path)
}

/// As [`load`], from text. `path` names it in errors.
///
/// # Errors
/// Everything that is wrong with it, by line.
pub fn parse(text: &str, path: &Path) -> Result<Settings, ConfigError> {
    let fail = |mut problems: Vec<Problem>| {
        problems.sort_by_key(|problem| problem.line);
        ConfigError {
            file: path.to_owned(),
            problems,
        }
    };
    let document = Document::parse(text).map_err(|problem| fail(vec![problem]))?;
    let misplaced = document.misplaced();
    if !misplaced.is_empty() {
        return Err(fail(misplaced));
    }
    let mut settings = document
        .settings()
        .map_err(|problem| fail(vec![problem]))?
        .with_lookups(|_| Vec::new());
    let problems = authentication::read_passwords(&mut settings, &document);
    if !problems.is_empty() {
        return Err(fail(problems));
    }
    let findings = validate::validate(&settings, &document);
    if !findings.errors.is_empty() {
        return Err(fail(findings.errors));
    }
    settings.warnings = findings.warnings;
    settings.warnings.sort_by_key(|problem| problem.line);
    Ok(settings)
}

#[cfg(test)]
mod tests;
