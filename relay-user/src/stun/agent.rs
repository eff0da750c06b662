//! What an ICE-lite agent answers (RFC 8489, sections 6.3.1 and 9.1.3; RFC 8445, section 7.3).

use std::net::SocketAddr;

use super::{BINDING, Builder, Class, Message, StunError, attribute::Attribute};

/// How many attributes that we do not know a refusal names.
const NAMED: usize = 8;
/// Room for every response: ERROR-CODE with its text, [`NAMED`] attributes, MESSAGE-INTEGRITY and
/// FINGERPRINT, or an IPv6 address with those two.
const LONGEST: usize = 128;

/// An answer, and what it answers.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    /// To be sent back to where the request came from.
    pub response: Response,
    pub outcome: Outcome<'a>,
}

/// The octets of a response.
#[derive(Clone, Copy, Debug)]
pub struct Response {
    octets: [u8; LONGEST],
    length: usize,
}

impl Response {
    #[must_use]
    pub fn octets(&self) -> &[u8] {
        self.octets.get(..self.length).unwrap_or_default()
    }
}

/// What a request comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome<'a> {
    /// A check by our credentials: packets can come from there, and go there.
    Checked(Check<'a>),
    Refused(Refusal),
}

/// A connectivity check that has succeeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Check<'a> {
    /// Our ufrag in it.
    pub own: &'a [u8],
    /// The ufrag of who checks: of several forks it says which.
    pub fragment: &'a [u8],
    /// The priority that the pair would have (RFC 8445, section 7.1.1); `None` for a request that
    /// only keeps a pair open.
    pub priority: Option<u32>,
    /// Whether this pair is to be used (USE-CANDIDATE).
    pub nominates: bool,
}

/// Why a request got an error response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// 400: without USERNAME or MESSAGE-INTEGRITY.
    BadRequest,
    /// 401: a ufrag that is not ours, or a wrong password.
    Unauthenticated,
    /// 420: something in it must be known, and is not.
    UnknownAttribute,
    /// 487: the other agent takes itself for the controlled one, which a lite agent always is.
    RoleConflict,
}

impl Refusal {
    /// The code and its text (RFC 8489, section 14.8; RFC 8445, section 7.3.1.1).
    const fn code(self) -> (u16, &'static str) {
        match self {
            Self::BadRequest => (400, "Bad Request"),
            Self::Unauthenticated => (401, "Unauthenticated"),
            Self::UnknownAttribute => (420, "Unknown Attribute"),
            Self::RoleConflict => (487, "Role Conflict"),
        }
    }
}

/// Answers a datagram that came from `source`. `password` gives ours for a ufrag of ours, `None` for
/// one that is not.
///
/// # Errors
/// [`StunError`] for what is not to be answered.
pub fn answer<'a, 'p>(
    octets: &'a [u8],
    source: SocketAddr,
    password: impl FnOnce(&[u8]) -> Option<&'p [u8]>,
) -> Result<Answer<'a>, StunError> {
    let message = Message::parse(octets)?;
    if message.class() != Class::Request || message.method() != BINDING {
        return Err(StunError::NotRequest);
    }
    let (outcome, password) = judge(&message, password);
    let response = respond(&message, source, &outcome, password);
    // Whatever is answered fits: the room is made for it.
    let response = response.ok_or(StunError::Malformed)?;
    Ok(Answer { response, outcome })
}

/// What a request comes to, and the password by which it is authentic.
fn judge<'a, 'p>(
    message: &Message<'a>,
    password: impl FnOnce(&[u8]) -> Option<&'p [u8]>,
) -> (Outcome<'a>, Option<&'p [u8]>) {
    let refused = |refusal| (Outcome::Refused(refusal), None);
    let has = |kind| message.attribute(kind).is_some();
    let Some(username) = message.attribute(Attribute::USERNAME) else {
        return refused(Refusal::BadRequest);
    };
    if !has(Attribute::MESSAGE_INTEGRITY) {
        return refused(Refusal::BadRequest);
    }
    let colon = username.value.iter().position(|octet| *octet == b':');
    let parts = colon.and_then(|colon| username.value.split_at_checked(colon));
    let Some((own, [_, fragment @ ..])) = parts else {
        return refused(Refusal::Unauthenticated);
    };
    let Some(password) = password(own).filter(|password| message.is_by(password)) else {
        return refused(Refusal::Unauthenticated);
    };
    let outcome = if message.attributes().any(|attribute| attribute.is_foreign()) {
        Outcome::Refused(Refusal::UnknownAttribute)
    } else if has(Attribute::ICE_CONTROLLED) {
        Outcome::Refused(Refusal::RoleConflict)
    } else {
        let priority = message
            .attribute(Attribute::PRIORITY)
            .and_then(|attribute| attribute.value.try_into().ok())
            .map(u32::from_be_bytes);
        Outcome::Checked(Check {
            own,
            fragment,
            priority,
            nominates: has(Attribute::USE_CANDIDATE),
        })
    };
    (outcome, Some(password))
}

/// The response: with MESSAGE-INTEGRITY where the request is authentic.
fn respond(
    message: &Message<'_>,
    source: SocketAddr,
    outcome: &Outcome<'_>,
    password: Option<&[u8]>,
) -> Option<Response> {
    let mut octets = [0; LONGEST];
    let class = match outcome {
        Outcome::Checked(_) => Class::Success,
        Outcome::Refused(_) => Class::Error,
    };
    let mut builder = Builder::new(&mut octets, BINDING, class, message.transaction());
    match outcome {
        Outcome::Checked(_) => builder.mapped_address(source),
        Outcome::Refused(refusal) => {
            let (code, reason) = refusal.code();
            builder.error_code(code, reason);
            if *refusal == Refusal::UnknownAttribute {
                let mut named = [0; 2 * NAMED];
                let foreign = message
                    .attributes()
                    .filter(|attribute| attribute.is_foreign());
                let mut length = 0;
                for (place, attribute) in named.chunks_exact_mut(2).zip(foreign) {
                    place.copy_from_slice(&attribute.kind.to_be_bytes());
                    length += 2;
                }
                let named = named.get(..length).unwrap_or_default();
                builder.attribute(Attribute::UNKNOWN_ATTRIBUTES, named);
            }
        }
    }
    if let Some(password) = password {
        builder.integrity(password);
    }
    builder.fingerprint();
    let length = builder.finish()?;
    Some(Response { octets, length })
}
