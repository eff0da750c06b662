//! Who must prove who he is, and how we prove who we are: credentials of trunks.

use std::{fmt, fs, path::Path, path::PathBuf, sync::Arc};

use schemars::JsonSchema;
use serde::{
    Deserialize, Deserializer,
    de::{Error, Visitor},
};
use zeroize::Zeroizing;

use super::{
    document::{
        Document,
        Step::{Index, Key},
    },
    error::Problem,
    settings::Settings,
    values::HostName,
};
use crate::{digest::Algorithm, sip::SipUri, sip::Uri};

/// The longest password, in octets.
const LONGEST: usize = 256;

/// A password. Nothing shows it, and it is wiped from memory with its last copy.
#[derive(Clone, JsonSchema)]
#[schemars(with = "String")]
pub struct Secret(Arc<Zeroizing<String>>);

impl Secret {
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(Arc::new(Zeroizing::new(text.to_owned())))
    }

    /// The password itself.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.reveal() == other.reveal()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secret")
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        /// What serde would say of another type holds the value.
        fn wrong<E: Error>() -> Result<Secret, E> {
            Err(E::custom("a password is a string\nput it in quotes"))
        }

        impl Visitor<'_> for Text {
            type Value = Secret;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a password in quotes")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Secret, E> {
                Ok(Secret::new(text))
            }

            fn visit_string<E: Error>(self, text: String) -> Result<Secret, E> {
                Ok(Secret(Arc::new(Zeroizing::new(text))))
            }

            fn visit_i64<E: Error>(self, _: i64) -> Result<Secret, E> {
                wrong()
            }

            fn visit_u64<E: Error>(self, _: u64) -> Result<Secret, E> {
                wrong()
            }

            fn visit_f64<E: Error>(self, _: f64) -> Result<Secret, E> {
                wrong()
            }

            fn visit_bool<E: Error>(self, _: bool) -> Result<Secret, E> {
                wrong()
            }
        }

        deserializer.deserialize_string(Text)
    }
}

/// Who we are to a trunk.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Credentials {
    /// Our name there.
    pub user: String,
    /// The password. Give this or `password_file`.
    #[serde(default)]
    pub password: Option<Secret>,
    /// A file that holds the password and nothing else; SIGHUP reads it anew.
    #[serde(default)]
    pub password_file: Option<PathBuf>,
    /// The only realm whose challenges are answered. Left out: each.
    #[serde(default)]
    pub realm: Option<String>,
}

/// Who may call from a trunk.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Authentication {
    /// What the challenge calls us. Left out: `domain`, or the address in `listen`.
    #[serde(default)]
    pub realm: Option<String>,
    /// `MD5`, `SHA-256` and `SHA-512-256`, the preferred one first; each makes a challenge of its
    /// own. Some peers read the first alone, as Kamailio's `uac` does, which knows MD5: for such a
    /// one name what it knows first.
    #[serde(default = "algorithms")]
    pub algorithms: Vec<Algorithm>,
    /// How long a nonce may be used, in seconds.
    #[serde(default = "nonce_seconds")]
    pub nonce_seconds: u32,
    /// Who may call.
    #[serde(default, rename = "user")]
    pub users: Vec<User>,
}

/// One who may call.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct User {
    /// The name in the credentials.
    pub name: String,
    /// The password. Give this or `password_file`.
    #[serde(default)]
    pub password: Option<Secret>,
    /// A file that holds the password and nothing else; SIGHUP reads it anew.
    #[serde(default)]
    pub password_file: Option<PathBuf>,
}

/// A registration with a trunk.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Registration {
    /// The domain that we register in. Left out: the host in `addresses`.
    #[serde(default)]
    pub registrar: Option<HostName>,
    /// Whom we register. Left out: `user` of `[trunk.credentials]`.
    #[serde(default)]
    pub user: Option<String>,
    /// How long a registration is asked to last, in seconds. It is renewed before that.
    #[serde(default = "registration_seconds")]
    pub expires: u32,
}

fn algorithms() -> Vec<Algorithm> {
    vec![Algorithm::Sha256, Algorithm::Md5]
}

const fn nonce_seconds() -> u32 {
    300
}

const fn registration_seconds() -> u32 {
    3_600
}

/// Reads the files of passwords, and says what is wrong with names and passwords.
pub(super) fn read_passwords(settings: &mut Settings, document: &Document<'_>) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (index, trunk) in settings.trunks.iter_mut().enumerate() {
        let mut problem = |keys: &[&'static str], what: String, remedy: &str| {
            let mut path = vec![Key("trunk"), Index(index)];
            path.extend(keys.iter().map(|key| Key(key)));
            problems.push(Problem {
                line: Some(document.line(&path)),
                what,
                remedy: remedy.to_owned(),
            });
        };
        if let Some(credentials) = &mut trunk.credentials {
            let place = &["credentials"];
            if credentials.user.is_empty() {
                problem(place, "credentials without a user".to_owned(), "name one");
            }
            match password(&credentials.password, credentials.password_file.as_deref()) {
                Ok(secret) => credentials.password = Some(secret),
                Err((what, remedy)) => problem(place, what, remedy),
            }
        }
        if let Some(authentication) = &mut trunk.authentication {
            let place = &["authentication"];
            if authentication.users.is_empty() || authentication.algorithms.is_empty() {
                problem(
                    place,
                    format!("nobody could call from trunk {:?}", trunk.name),
                    "add a [[trunk.authentication.user]], and leave `algorithms` out",
                );
            }
            if !(10..=86_400).contains(&authentication.nonce_seconds) {
                problem(
                    place,
                    "nonce_seconds is out of bounds".to_owned(),
                    "choose 10 to 86400",
                );
            }
            let mut names = Vec::new();
            for user in &mut authentication.users {
                if user.name.is_empty() || names.contains(&user.name) {
                    problem(
                        place,
                        format!("the user {:?} is there twice, or has no name", user.name),
                        "give each a name of its own",
                    );
                }
                names.push(user.name.clone());
                match password(&user.password, user.password_file.as_deref()) {
                    Ok(secret) => user.password = Some(secret),
                    Err((what, remedy)) => problem(place, what, remedy),
                }
            }
        }
        if let Some(registration) = &trunk.registration {
            let place = &["registration"];
            if !(10..=604_800).contains(&registration.expires) {
                problem(
                    place,
                    "expires is out of bounds".to_owned(),
                    "choose 10 to 604800",
                );
            }
            if trunk.addresses.is_empty() {
                problem(
                    place,
                    format!("trunk {:?} has no address to register with", trunk.name),
                    "add one to its `addresses`",
                );
            }
            if trunk.registered_user().is_none() {
                problem(
                    place,
                    format!("it is not said whom trunk {:?} registers", trunk.name),
                    "set `user` to what stands before @ in the address, such as \"+15551000\"",
                );
            }
        }
    }
    problems
}

/// The user part that is registered, if it can be one.
pub(super) fn registered_user(
    registration: &Registration,
    credentials: Option<&Credentials>,
) -> Option<String> {
    let user = match &registration.user {
        Some(user) => user.as_str(),
        None => credentials?.user.split('@').next()?,
    };
    let uri: Uri = SipUri::new(Some(user), "host", None)
        .to_string()
        .parse()
        .ok()?;
    (!user.is_empty() && uri.user() == Some(user)).then(|| user.to_owned())
}

/// Why there is no password, and what to do about it.
type Missing = (String, &'static str);

fn password(inline: &Option<Secret>, file: Option<&Path>) -> Result<Secret, Missing> {
    let secret = match (inline, file) {
        (Some(secret), None) => secret.clone(),
        (None, Some(file)) => {
            let text = fs::read_to_string(file)
                .map(Zeroizing::new)
                .map_err(|error| {
                    (
                        format!("no password in {} ({error})", file.display()),
                        "name a file that exists and that this user may read",
                    )
                })?;
            Secret::new(text.trim_end_matches(['\r', '\n']))
        }
        _ => {
            return Err((
                "credentials want one password".to_owned(),
                "set `password` or `password_file`, and not both",
            ));
        }
    };
    let text = secret.reveal();
    if text.is_empty() || text.len() > LONGEST || text.chars().any(char::is_control) {
        return Err((
            "this is no password".to_owned(),
            "use one line of 1 to 256 octets",
        ));
    }
    Ok(secret)
}
