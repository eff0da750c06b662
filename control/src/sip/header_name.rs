//! The names of header fields that are known here, and their compact forms.

use std::fmt;

macro_rules! header_names {
    ($($variant:ident $text:literal $($compact:literal)?,)*) => {
        /// A header field that is known by name. Any other is found by its text, see
        /// [`HeaderKey`].
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum HeaderName {
            $(
                #[doc = concat!("`", $text, "`")]
                $variant,
            )*
        }

        impl HeaderName {
            const ALL: &[(Self, &'static str)] = &[$((Self::$variant, $text),)*];

            /// The full name in its usual spelling.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)*
                }
            }

            /// By the compact form (RFC 3261 §7.3.3 and the registry).
            const fn from_compact(letter: u8) -> Option<Self> {
                match letter.to_ascii_lowercase() {
                    $($($compact => Some(Self::$variant),)?)*
                    _ => None,
                }
            }
        }
    };
}

header_names! {
    Via "Via" b'v',
    From "From" b'f',
    To "To" b't',
    CallId "Call-ID" b'i',
    CSeq "CSeq",
    Contact "Contact" b'm',
    MaxForwards "Max-Forwards",
    Route "Route",
    RecordRoute "Record-Route",
    ContentLength "Content-Length" b'l',
    ContentType "Content-Type" b'c',
    ContentEncoding "Content-Encoding" b'e',
    ContentDisposition "Content-Disposition",
    ContentLanguage "Content-Language",
    MimeVersion "MIME-Version",
    Accept "Accept",
    AcceptEncoding "Accept-Encoding",
    AcceptLanguage "Accept-Language",
    AcceptContact "Accept-Contact" b'a',
    RejectContact "Reject-Contact" b'j',
    RequestDisposition "Request-Disposition" b'd',
    Allow "Allow",
    AllowEvents "Allow-Events" b'u',
    AlertInfo "Alert-Info",
    CallInfo "Call-Info",
    Authorization "Authorization",
    AuthenticationInfo "Authentication-Info",
    WwwAuthenticate "WWW-Authenticate",
    ProxyAuthenticate "Proxy-Authenticate",
    ProxyAuthorization "Proxy-Authorization",
    ProxyRequire "Proxy-Require",
    Require "Require",
    Supported "Supported" b'k',
    Unsupported "Unsupported",
    Date "Date",
    Diversion "Diversion",
    HistoryInfo "History-Info",
    ErrorInfo "Error-Info",
    Event "Event" b'o',
    Expires "Expires",
    MinExpires "Min-Expires",
    SessionExpires "Session-Expires" b'x',
    MinSe "Min-SE",
    InReplyTo "In-Reply-To",
    Organization "Organization",
    Priority "Priority",
    Privacy "Privacy",
    PAssertedIdentity "P-Asserted-Identity",
    PPreferredIdentity "P-Preferred-Identity",
    PEarlyMedia "P-Early-Media",
    RemotePartyId "Remote-Party-ID",
    RSeq "RSeq",
    RAck "RAck",
    Reason "Reason",
    ReferTo "Refer-To" b'r',
    ReferredBy "Referred-By" b'b',
    ReferSub "Refer-Sub",
    Replaces "Replaces",
    ReplyTo "Reply-To",
    RetryAfter "Retry-After",
    Server "Server",
    UserAgent "User-Agent",
    Subject "Subject" b's',
    SubscriptionState "Subscription-State",
    Timestamp "Timestamp",
    Warning "Warning",
    Path "Path",
    ServiceRoute "Service-Route",
    Identity "Identity" b'y',
    UserToUser "User-to-User",
    Geolocation "Geolocation",
    GeolocationRouting "Geolocation-Routing",
}

const SLOTS: usize = 256;
const FREE: u8 = u8::MAX;

const fn slot(name: &[u8]) -> usize {
    // Both ends and the middle tell the names apart well enough for probing to stay short.
    let length = name.len();
    let first = name[0].to_ascii_lowercase() as usize;
    let middle = name[length / 2].to_ascii_lowercase() as usize;
    let last = name[length - 1].to_ascii_lowercase() as usize;
    (length * 5 + first * 31 + middle * 17 + last * 3) % SLOTS
}

const TABLE: [u8; SLOTS] = {
    let mut table = [FREE; SLOTS];
    let mut index = 0;
    while index < HeaderName::ALL.len() {
        let mut at = slot(HeaderName::ALL[index].1.as_bytes());
        while table[at] != FREE {
            at = (at + 1) % SLOTS;
        }
        table[at] = index as u8;
        index += 1;
    }
    table
};

impl HeaderName {
    /// By full name or compact form, whatever the case.
    #[must_use]
    pub fn lookup(name: &[u8]) -> Option<Self> {
        match name {
            [] => return None,
            [letter] => return Self::from_compact(*letter),
            _ => {}
        }
        let mut at = slot(name);
        loop {
            let index = TABLE.get(at).copied().filter(|index| *index != FREE)?;
            let (known, text) = Self::ALL.get(usize::from(index))?;
            if text.as_bytes().eq_ignore_ascii_case(name) {
                return Some(*known);
            }
            at = (at + 1) % SLOTS;
        }
    }

    /// Whether the value is a list whose elements a comma parts (RFC 3261 §7.3.1), for the lists
    /// that the core reads by element.
    #[must_use]
    pub const fn is_list(self) -> bool {
        matches!(
            self,
            Self::Via
                | Self::Contact
                | Self::Route
                | Self::RecordRoute
                | Self::Path
                | Self::ServiceRoute
                | Self::Accept
                | Self::AcceptEncoding
                | Self::AcceptLanguage
                | Self::Allow
                | Self::AllowEvents
                | Self::AlertInfo
                | Self::CallInfo
                | Self::ContentEncoding
                | Self::ContentLanguage
                | Self::Diversion
                | Self::HistoryInfo
                | Self::ErrorInfo
                | Self::InReplyTo
                | Self::PAssertedIdentity
                | Self::PPreferredIdentity
                | Self::RemotePartyId
                | Self::ProxyRequire
                | Self::Require
                | Self::Supported
                | Self::Unsupported
                | Self::Reason
                | Self::Warning
        )
    }
}

impl fmt::Display for HeaderName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// Names a header field in a question: a [`HeaderName`], or text for those that are not known
/// here. Case does not matter, and a compact form finds the full one.
#[derive(Clone, Copy, Debug)]
pub enum HeaderKey<'a> {
    Known(HeaderName),
    Other(&'a str),
}

impl HeaderKey<'_> {
    /// The name as written when it is new in a message.
    #[must_use]
    pub const fn as_str(&self) -> &str {
        match self {
            Self::Known(name) => name.as_str(),
            Self::Other(name) => name,
        }
    }
}

impl From<HeaderName> for HeaderKey<'static> {
    fn from(name: HeaderName) -> Self {
        Self::Known(name)
    }
}

impl<'a> From<&'a str> for HeaderKey<'a> {
    fn from(name: &'a str) -> Self {
        HeaderName::lookup(name.as_bytes()).map_or(Self::Other(name), Self::Known)
    }
}

impl<'a> From<&'a String> for HeaderKey<'a> {
    fn from(name: &'a String) -> Self {
        Self::from(name.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_found_in_any_case() {
        for (name, text) in HeaderName::ALL {
            assert_eq!(HeaderName::lookup(text.as_bytes()), Some(*name));
            assert_eq!(
                HeaderName::lookup(text.to_ascii_uppercase().as_bytes()),
                Some(*name)
            );
        }
        assert_eq!(HeaderName::lookup(b"v"), Some(HeaderName::Via));
        assert_eq!(HeaderName::lookup(b"X"), Some(HeaderName::SessionExpires));
        assert_eq!(HeaderName::lookup(b"X-MS-SBC"), None);
        assert_eq!(HeaderName::lookup(b"z"), None);
        assert_eq!(HeaderName::lookup(b""), None);
    }
}
