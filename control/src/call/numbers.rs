//! Telephone numbers on their way from one trunk's form to the other's: with `+` in between, which
//! routes see.

use super::trunk::Trunk;
use crate::{
    config::Form,
    sip::{HeaderName, Request, SipUri, Text, Uri},
};

/// The header fields that name users.
const NAMING: [HeaderName; 5] = [
    HeaderName::From,
    HeaderName::To,
    HeaderName::PAssertedIdentity,
    HeaderName::Diversion,
    HeaderName::HistoryInfo,
];

/// Reads the number that a trunk calls. The header fields stay: responses repeat them.
pub(super) fn read_called(request: &mut Request, from: &Trunk) {
    if let Uri::Sip(uri) = &mut request.uri {
        change(uri, |number| from.numbers.read(number));
    }
}

/// Writes the numbers in a request that came from one trunk as the other wants them.
pub(super) fn write_all(request: &mut Request, from: &Trunk, to: &Trunk) {
    if [from, to]
        .iter()
        .all(|trunk| trunk.numbers.form == Form::AsSent)
    {
        return;
    }
    let translate = |number: &str| {
        let read = from.numbers.read(number);
        let written = to.numbers.write(read.as_deref().unwrap_or(number));
        written.or(read)
    };
    if let Uri::Sip(uri) = &mut request.uri {
        change(uri, translate);
    }
    for name in NAMING {
        let Ok(mut addresses) = request.headers.addresses(name) else {
            continue;
        };
        let mut changed = false;
        for address in &mut addresses {
            if let Uri::Sip(uri) = &mut address.uri {
                changed |= change(uri, translate);
            }
        }
        if changed {
            request.headers.remove(name);
            for address in &addresses {
                request.headers.push(name, address);
            }
        }
    }
}

/// Changes the number in a URI; what follows it in the user part stays. Says whether it did.
fn change(uri: &mut SipUri, other: impl Fn(&str) -> Option<String>) -> bool {
    let Some(user) = uri.user.as_deref() else {
        return false;
    };
    let (number, rest) = user.split_at(user.find(';').unwrap_or(user.len()));
    let Some(other) = other(number) else {
        return false;
    };
    uri.user = Some(Text::from(format!("{other}{rest}")));
    true
}
