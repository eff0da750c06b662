//! Reason (RFC 3326): what passes, what is corrected, and what is made from a status.

use crate::sip::{HeaderName, Headers};

use super::trunk::Trunk;

/// Said to those whom another has beaten to the answer.
pub(super) const ELSEWHERE: &str = "SIP;cause=200;text=\"Call completed elsewhere\"";

/// Normal call clearing.
const CLEARED: u16 = 16;
/// What Teams says for a busy user.
const NO_CIRCUIT: &str = "34";

/// Corrects the Reason that came with a 486 of the trunk: where it says that no circuit was free,
/// somebody was busy.
pub(super) fn correct(status: u16, from: &Trunk, headers: &mut Headers) {
    let Some(cause) = from.sip.busy_cause().filter(|_| status == 486) else {
        return;
    };
    let reasons: Vec<String> = headers
        .elements(HeaderName::Reason)
        .map(|reason| {
            let text = String::from_utf8_lossy(&reason).into_owned();
            let parts: Vec<&str> = text.split(';').map(str::trim).collect();
            let told = parts.iter().any(|part| {
                part.to_ascii_lowercase()
                    .strip_prefix("cause=")
                    .is_some_and(|value| value.trim() == NO_CIRCUIT)
            });
            if told && text.to_ascii_lowercase().starts_with("q.850") {
                format!("Q.850;cause={cause}")
            } else {
                text
            }
        })
        .collect();
    if headers.remove(HeaderName::Reason) {
        for reason in reasons {
            headers.push(HeaderName::Reason, reason);
        }
    }
}

/// Gives a message that says why something ends a Reason when it has none and the trunk wants
/// one. `status` is the refusal's; `None` for a BYE.
pub(super) fn make(status: Option<u16>, to: &Trunk, headers: &mut Headers) {
    if to.sip.make_reason && !headers.has(HeaderName::Reason) {
        let cause = status.map_or(CLEARED, of_status);
        headers.push(HeaderName::Reason, format!("Q.850;cause={cause}"));
    }
}

/// The Q.850 cause of a status (RFC 3398 §8.2.6.1; 488 as incompatible destination).
const fn of_status(status: u16) -> u16 {
    match status {
        404 | 485 | 604 => 1,
        486 | 600 => 17,
        480 => 18,
        401 | 402 | 403 | 407 | 603 => 21,
        410 => 22,
        482 | 483 => 25,
        484 => 28,
        487 => CLEARED,
        502 => 38,
        400 | 481 | 500 | 503 => 41,
        606 => 58,
        405 => 63,
        406 | 415 | 501 => 79,
        488 => 88,
        408 | 504 => 102,
        _ => 127,
    }
}
