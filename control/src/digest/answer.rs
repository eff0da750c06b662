//! What credentials are proved with: Authorization and Proxy-Authorization.

use super::{
    Algorithm, Challenge,
    parameters::{Parameters, quoted},
};

/// What the proof covers (`qop`). In order of preference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protection {
    /// The method and the URI.
    Authentication,
    /// The body as well.
    Integrity,
}

impl Protection {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Authentication => "auth",
            Self::Integrity => "auth-int",
        }
    }

    pub(super) fn parse(name: &str) -> Option<Self> {
        [Self::Authentication, Self::Integrity]
            .into_iter()
            .find(|known| known.name().eq_ignore_ascii_case(name))
    }
}

/// The request that credentials are for.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    pub method: &'a str,
    pub uri: &'a str,
    pub body: &'a [u8],
}

/// The proof that somebody knows a password. The password is not in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub user: String,
    pub realm: String,
    pub nonce: String,
    pub opaque: Option<String>,
    pub algorithm: Algorithm,
    names_algorithm: bool,
    pub uri: String,
    pub protection: Option<Protection>,
    /// How often this nonce was used, this time included.
    pub count: Option<u32>,
    client_nonce: Option<String>,
    response: String,
}

impl Answer {
    /// The answer to a challenge: `count` is 1 for a new nonce, `client_nonce` one that nobody can
    /// guess.
    #[must_use]
    pub fn new(
        challenge: &Challenge,
        user: &str,
        password: &str,
        asked: Asked<'_>,
        count: u32,
        client_nonce: &str,
    ) -> Self {
        let protected = challenge.protection.is_some();
        let mut answer = Self {
            user: user.to_owned(),
            realm: challenge.realm.clone(),
            nonce: challenge.nonce.clone(),
            opaque: challenge.opaque.clone(),
            algorithm: challenge.algorithm,
            names_algorithm: challenge.names_algorithm,
            uri: asked.uri.to_owned(),
            protection: challenge.protection,
            count: protected.then_some(count),
            client_nonce: protected.then(|| client_nonce.to_owned()),
            response: String::new(),
        };
        answer.response = answer.compute(password, asked);
        answer
    }

    /// Reads a header's value. `None` when it is not Digest or lacks what an answer has.
    #[must_use]
    pub fn parse(value: &[u8]) -> Option<Self> {
        let parameters = Parameters::parse(value)?;
        let text = |name: &str| parameters.get(name).map(str::to_owned);
        let algorithm = parameters.get("algorithm");
        let protection = match parameters.get("qop") {
            None => None,
            Some(name) => Some(Protection::parse(name)?),
        };
        let count = match parameters.get("nc") {
            None => None,
            Some(count) if count.len() == 8 => Some(u32::from_str_radix(count, 16).ok()?),
            Some(_) => return None,
        };
        let client_nonce = text("cnonce");
        if protection.is_some() && (count.is_none() || client_nonce.is_none()) {
            return None;
        }
        Some(Self {
            user: text("username")?,
            realm: text("realm")?,
            nonce: text("nonce")?,
            opaque: text("opaque"),
            algorithm: algorithm.map_or(Some(Algorithm::Md5), Algorithm::parse)?,
            names_algorithm: algorithm.is_some(),
            uri: text("uri")?,
            protection,
            count,
            client_nonce,
            response: text("response")?,
        })
    }

    /// The header's value.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = format!(
            "Digest username={}, realm={}, nonce={}, uri={}, response=\"{}\"",
            quoted(&self.user),
            quoted(&self.realm),
            quoted(&self.nonce),
            quoted(&self.uri),
            self.response
        );
        if self.names_algorithm {
            text.push_str(&format!(", algorithm={}", self.algorithm.name()));
        }
        if let (Some(protection), Some(count), Some(client_nonce)) =
            (self.protection, self.count, &self.client_nonce)
        {
            text.push_str(&format!(
                ", qop={}, nc={count:08x}, cnonce={}",
                protection.name(),
                quoted(client_nonce)
            ));
        }
        if let Some(opaque) = &self.opaque {
            text.push_str(&format!(", opaque={}", quoted(opaque)));
        }
        text
    }

    /// Whether it was made with that password for that method and body. Takes as long for every
    /// wrong one.
    #[must_use]
    pub fn proves(&self, password: &str, method: &str, body: &[u8]) -> bool {
        let asked = Asked {
            method,
            uri: &self.uri,
            body,
        };
        let wanted = self.compute(password, asked);
        let given = self.response.as_bytes();
        wanted.len() == given.len()
            && wanted.bytes().zip(given).fold(0, |differs, (one, other)| {
                differs | (one ^ other.to_ascii_lowercase())
            }) == 0
    }

    /// RFC 7616 §3.4.1.
    fn compute(&self, password: &str, asked: Asked<'_>) -> String {
        let algorithm = self.algorithm;
        let secret = algorithm.hash(&[
            self.user.as_bytes(),
            self.realm.as_bytes(),
            password.as_bytes(),
        ]);
        let (method, uri) = (asked.method.as_bytes(), asked.uri.as_bytes());
        let request = match self.protection {
            Some(Protection::Integrity) => {
                let body = algorithm.hash(&[asked.body]);
                algorithm.hash(&[method, uri, body.as_bytes()])
            }
            _ => algorithm.hash(&[method, uri]),
        };
        let (secret, request) = (secret.as_bytes(), request.as_bytes());
        let nonce = self.nonce.as_bytes();
        let response = match (self.protection, self.count, &self.client_nonce) {
            (Some(protection), Some(count), Some(client_nonce)) => algorithm.hash(&[
                secret,
                nonce,
                format!("{count:08x}").as_bytes(),
                client_nonce.as_bytes(),
                protection.name().as_bytes(),
                request,
            ]),
            _ => algorithm.hash(&[secret, nonce, request]),
        };
        response.to_string()
    }
}
