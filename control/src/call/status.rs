//! What a final response of one side becomes on the other.

use crate::sip::{HeaderName, Response};

/// The status code that the caller gets for a final response other than 2xx of the callee.
///
/// | of the callee | to the caller | why |
/// |---|---|---|
/// | 3xx | 480 | redirection would tell the caller the callee's addresses |
/// | 401, 407 | 500 | the challenge is for us |
/// | 400, 405, 413–416, 420–423, 481, 491, 493, 494, 505, 513 | 500 | they speak of our request, not of the caller's |
/// | any other 4xx, 5xx and 6xx | the same | |
///
/// The reason phrase is always the usual one of the code, never the callee's text. A 503 passes
/// without its Retry-After, which RFC 3261 §21.5.4 then treats as a 500: we are not out of service.
pub(super) const fn towards_caller(status: u16) -> u16 {
    match status {
        300..400 => 480,
        400 | 401 | 405 | 407 | 413..=416 | 420..=423 | 481 | 491 | 493 | 494 | 505 | 513 => 500,
        ..400 | 700.. => 500,
        other => other,
    }
}

/// When the callee says that it will be there again, in seconds (RFC 3261 §20.33).
pub(super) fn back_later(response: &Response) -> Option<u32> {
    let later = response.headers.number(HeaderName::RetryAfter).ok()?;
    later.filter(|_| matches!(response.status, 404 | 480 | 486 | 600 | 603))
}

/// As [`towards_caller`], for a request inside the dialog (re-INVITE, INFO): what the other side
/// says of the body and of glare is for the side that asked.
pub(super) const fn inside_dialog(status: u16) -> u16 {
    match status {
        413 | 415 | 491 => status,
        other => towards_caller(other),
    }
}

/// Whether a final response lets the next address of a trunk be tried, while nothing but 100 has
/// come.
pub(super) const fn tries_next(status: u16) -> bool {
    matches!(status, 408 | 503 | 504)
}

/// Whether a response to a request inside a dialog says that the dialog is gone (RFC 3261
/// §12.2.1.2).
pub(super) const fn ends_dialog(status: u16) -> bool {
    matches!(status, 408 | 481)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_speaks_of_the_callee_passes_and_what_speaks_of_us_does_not() {
        for status in [
            403, 404, 408, 480, 486, 487, 488, 500, 503, 504, 600, 603, 606,
        ] {
            assert_eq!(towards_caller(status), status);
        }
        for status in [401, 407, 415, 420, 422, 481, 505] {
            assert_eq!(towards_caller(status), 500);
        }
        assert_eq!(towards_caller(302), 480);
        assert_eq!(inside_dialog(491), 491);
    }
}
