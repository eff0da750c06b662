//! The values of the configuration that are more than a string or a number. Each is parsed once,
//! here; what is wrong with it is said as "what\nwhat to do".

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    ops::RangeInclusive,
    str::FromStr,
};

use regex::Regex;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// What separates what is wrong from what to do about it in a value's error.
pub(super) const REMEDY: char = '\n';

fn from_string<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr<Err = String>,
{
    String::deserialize(deserializer)?
        .parse()
        .map_err(D::Error::custom)
}

macro_rules! from_text {
    ($($type:ty),*) => {
        $(impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                from_string(deserializer)
            }
        }

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        })*
    };
}

from_text!(PortRange, Pattern, TrunkAddress, Host, HostName);

/// A range of ports, written `"20000-29999"`: both ends belong to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
#[schemars(with = "String")]
pub struct PortRange {
    first: u16,
    last: u16,
}

impl PortRange {
    /// # Errors
    /// The range is empty, starts on an odd port or ends on an even one.
    pub fn new(first: u16, last: u16) -> Result<Self, String> {
        if first > last {
            return Err(format!(
                "the range {first}-{last} is empty{REMEDY}put the lower port first"
            ));
        }
        if !first.is_multiple_of(2) || last.is_multiple_of(2) {
            return Err(format!(
                "the range {first}-{last} does not consist of pairs{REMEDY}\
                 begin with an even port (RTP) and end with an odd one (RTCP)"
            ));
        }
        if first < 1024 {
            return Err(format!(
                "the range {first}-{last} holds ports below 1024{REMEDY}\
                 choose a range above the well-known ports, such as \"20000-29999\""
            ));
        }
        Ok(Self { first, last })
    }

    #[must_use]
    pub fn range(self) -> RangeInclusive<u16> {
        self.first..=self.last
    }

    /// How many pairs of RTP and RTCP ports it holds.
    #[must_use]
    pub fn pairs(self) -> u32 {
        (u32::from(self.last) - u32::from(self.first)).div_ceil(2)
    }

    #[must_use]
    pub fn contains(self, port: u16) -> bool {
        self.range().contains(&port)
    }
}

impl FromStr for PortRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "{text:?} is not a range of ports{REMEDY}write the first and the last port, such as \"20000-29999\""
            )
        };
        let (first, last) = text.split_once('-').ok_or_else(wrong)?;
        Self::new(
            first.trim().parse().map_err(|_| wrong())?,
            last.trim().parse().map_err(|_| wrong())?,
        )
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}-{}", self.first, self.last)
    }
}

/// A regular expression on a number. It takes time linear in the number's length.
#[derive(Clone, Debug, JsonSchema)]
#[schemars(with = "String")]
pub struct Pattern(Regex);

/// The longest pattern, in octets.
const PATTERN_LENGTH: usize = 1024;
/// The memory that one compiled pattern may take, in octets.
const PATTERN_MEMORY: usize = 1 << 20;

impl Pattern {
    #[must_use]
    pub fn is_match(&self, number: &str) -> bool {
        self.0.is_match(number)
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl FromStr for Pattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.len() > PATTERN_LENGTH {
            return Err(format!(
                "the pattern has {} octets, more than {PATTERN_LENGTH}{REMEDY}split it over several routes",
                text.len()
            ));
        }
        regex::RegexBuilder::new(text)
            .size_limit(PATTERN_MEMORY)
            .build()
            .map(Self)
            .map_err(|error| {
                let last = error.to_string();
                let last = last.lines().last().unwrap_or_default();
                let last = last.strip_prefix("error: ").unwrap_or(last);
                format!(
                    "{text:?} is not a regular expression: {last}{REMEDY}correct it; a literal + is written \\\\+"
                )
            })
    }
}

/// The name or the address of a host, with or without a port.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema)]
#[schemars(with = "String")]
pub struct TrunkAddress {
    pub host: Host,
    /// `None`: the transport's own port.
    pub port: Option<u16>,
}

/// A host, by address or by name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, JsonSchema)]
#[schemars(with = "String")]
pub enum Host {
    Address(IpAddr),
    Name(HostName),
}

impl Host {
    /// Whether the host of a URI is this one (RFC 3261 §19.1.4): names in any case, addresses by
    /// what they mean.
    #[must_use]
    pub fn is(&self, host: &str) -> bool {
        match self {
            Self::Address(address) => unbracketed(host).parse() == Ok(*address),
            Self::Name(name) => name.as_str().eq_ignore_ascii_case(host),
        }
    }
}

impl FromStr for Host {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(address) = unbracketed(text).parse() {
            return Ok(Self::Address(address));
        }
        text.parse().map(Self::Name).map_err(|_| {
            format!(
                "{text:?} is neither an address nor a host name{REMEDY}\
                 write \"sbc.example.com\", \"192.0.2.1\" or \"2001:db8::1\""
            )
        })
    }
}

impl fmt::Display for Host {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(formatter),
            Self::Name(name) => name.fmt(formatter),
        }
    }
}

/// An address without the brackets of a URI.
fn unbracketed(text: &str) -> &str {
    text.strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(text)
}

impl FromStr for TrunkAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(socket) = text.parse::<SocketAddr>() {
            if socket.port() == 0 {
                return Err(format!(
                    "{text:?} names port 0{REMEDY}name the port, or leave it out for the transport's own"
                ));
            }
            return Ok(Self {
                host: Host::Address(socket.ip()),
                port: Some(socket.port()),
            });
        }
        if let Ok(address) = unbracketed(text).parse() {
            return Ok(Self {
                host: Host::Address(address),
                port: None,
            });
        }
        let wrong = || {
            format!(
                "{text:?} is neither an address nor a host name{REMEDY}\
                 write \"192.0.2.1:5060\", \"[2001:db8::1]:5060\" or \"sip.example.com:5061\""
            )
        };
        let (name, port) = match text.split_once(':') {
            Some((name, port)) => (
                name,
                Some(
                    port.parse()
                        .ok()
                        .filter(|port| *port > 0)
                        .ok_or_else(wrong)?,
                ),
            ),
            None => (text, None),
        };
        Ok(Self {
            host: Host::Name(name.parse().map_err(|_| wrong())?),
            port,
        })
    }
}

impl fmt::Display for TrunkAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.host, self.port) {
            (Host::Address(address), Some(port)) => {
                write!(formatter, "{}", SocketAddr::new(*address, port))
            }
            (Host::Address(address), None) => write!(formatter, "{address}"),
            (Host::Name(name), Some(port)) => write!(formatter, "{name}:{port}"),
            (Host::Name(name), None) => write!(formatter, "{name}"),
        }
    }
}

/// A host name of letters, digits and hyphens (RFC 1123, section 2.1), in lower case.
#[derive(Clone, Debug, PartialEq, Eq, Hash, JsonSchema)]
#[schemars(with = "String")]
pub struct HostName(String);

impl HostName {
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for HostName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let label = |label: &str| {
            (1..=63).contains(&label.len())
                && label
                    .bytes()
                    .all(|octet| octet.is_ascii_alphanumeric() || octet == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        let last = text.rsplit('.').next().unwrap_or_default();
        if text.len() > 253
            || !text.split('.').all(label)
            || last.bytes().all(|octet| octet.is_ascii_digit())
        {
            return Err(format!(
                "{text:?} is not a host name{REMEDY}use letters, digits, hyphens and dots, such as \"sbc.example.com\""
            ));
        }
        Ok(Self(text.to_ascii_lowercase()))
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn port_ranges_hold_whole_pairs() {
        let range: PortRange = "20000-20009".parse().unwrap();
        assert_eq!((range.pairs(), range.range()), (5, 20000..=20009));
        for wrong in [
            "20000",
            "20001-20010",
            "20009-20000",
            "20000-20010",
            "0-9",
            "a-b",
            "20000-99999",
        ] {
            assert!(wrong.parse::<PortRange>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn hosts_are_known_again_in_a_uri() {
        for (text, same, other) in [
            ("sbc.example.com", "SBC.Example.com", "a.sbc.example.com"),
            ("192.0.2.1", "192.0.2.1", "192.0.2.10"),
            ("2001:db8::1", "[2001:DB8:0::1]", "[2001:db8::2]"),
            ("[2001:db8::1]", "[2001:db8::1]", "2001"),
        ] {
            let host: Host = text.parse().unwrap();
            assert!(host.is(same), "{text}");
            assert!(!host.is(other), "{text}");
        }
        for wrong in ["", "sbc example", "sbc.example.com:5060", "*.example.com"] {
            assert!(wrong.parse::<Host>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn trunk_addresses_are_read_with_and_without_a_port() {
        for (text, port) in [
            ("192.0.2.1:5060", Some(5060)),
            ("192.0.2.1", None),
            ("[2001:db8::1]:5061", Some(5061)),
            ("2001:db8::1", None),
            ("sip.example.com", None),
            ("sip.example.com:5061", Some(5061)),
        ] {
            let address: TrunkAddress = text.parse().unwrap();
            assert_eq!(address.port, port, "{text}");
            assert_eq!(address.to_string(), text);
        }
        for wrong in [
            "",
            "192.0.2.300",
            "sip example",
            "host:0",
            "host:70000",
            "192.0.2.1:0",
            "-a.example",
        ] {
            assert!(wrong.parse::<TrunkAddress>().is_err(), "{wrong}");
        }
    }
}
