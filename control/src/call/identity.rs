//! Who calls, who is asserted to call, and for whom a call was forwarded: what each trunk is told
//! (RFC 3323, RFC 3325, RFC 5806, RFC 7044, and RFC 7544 between the last two).

use super::{headers::rehosted, trunk::Trunk};
use crate::{
    config::Forwarding,
    sip::{HeaderName, Headers, NameAddress, SipUri, Text, Uri},
};

/// The longest chain of forwardings that is told on.
const FORWARDINGS: usize = 10;
/// The most identities that are asserted: a SIP URI and a tel URI (RFC 3325 §9.1).
const IDENTITIES: usize = 2;

/// Who a caller is, as the other trunk is told.
pub(super) struct Identity {
    /// From, without a tag.
    pub(super) from: NameAddress,
    /// P-Asserted-Identity.
    pub(super) asserted: Vec<NameAddress>,
}

impl Identity {
    /// Lets a number stand for the caller.
    pub(super) fn replace_number(&mut self, number: &Text, trunk: &Trunk) {
        let mut uri = SipUri::new(Some(number), &trunk.host, None);
        uri.parameters.set("user", "phone");
        self.from = NameAddress::new(uri);
        if !self.asserted.is_empty() {
            self.asserted = vec![self.from.clone()];
        }
    }
}

/// One party that a call was forwarded by.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Forwarded {
    uri: Uri,
    /// Why, as a SIP cause (RFC 4458, RFC 7544 §4).
    cause: u16,
}

/// The reasons of Diversion and the causes that stand for them (RFC 7544 §4.2).
const REASONS: [(&str, u16); 6] = [
    ("unconditional", 302),
    ("user-busy", 486),
    ("no-answer", 408),
    ("deflection", 480),
    ("unavailable", 503),
    ("unknown", 404),
];

/// Who the caller is, towards trunk `to`.
pub(super) fn identity(theirs: &Headers, from: &Trunk, to: &Trunk) -> Option<Identity> {
    let caller = theirs.from().ok()?;
    let mut asserted = Vec::new();
    if from.sip.is_trusted() {
        let named = theirs
            .addresses(HeaderName::PAssertedIdentity)
            .unwrap_or_default();
        asserted.extend(
            named
                .into_iter()
                .filter(|address| address.uri.user().is_some())
                .take(IDENTITIES),
        );
    }
    let hidden = hides(theirs);
    let shown = match asserted.first() {
        Some(known) if to.sip.names_asserted() => known,
        _ => &caller,
    };
    let from = if hidden || is_anonymous(&caller.uri) && to.sip.names_asserted() {
        anonymous()
    } else {
        address(shown, to)
    };
    if asserted.is_empty() && hidden && !is_anonymous(&caller.uri) {
        asserted.push(caller);
    }
    if !to.sip.is_trusted() {
        asserted.clear();
    }
    Some(Identity {
        from,
        asserted: asserted.iter().map(|known| address(known, to)).collect(),
    })
}

/// Whether the caller asks not to be shown (RFC 3323 §4.2, RFC 3325 §9.3).
fn hides(headers: &Headers) -> bool {
    let values = headers
        .all(HeaderName::Privacy)
        .filter_map(|field| field.text());
    let asked: Vec<&str> = values
        .flat_map(|value| value.split([';', ',']))
        .map(str::trim)
        .collect();
    let asks = |what: &str| asked.iter().any(|value| value.eq_ignore_ascii_case(what));
    !asks("none") && (asks("id") || asks("user"))
}

fn is_anonymous(uri: &Uri) -> bool {
    uri.as_sip()
        .is_some_and(|uri| uri.host.eq_ignore_ascii_case("anonymous.invalid"))
}

/// RFC 3323 §4.1.1.3.
fn anonymous() -> NameAddress {
    NameAddress::new(SipUri::new(Some("anonymous"), "anonymous.invalid", None))
        .with_display_name("Anonymous")
}

/// An address as the trunk sees it: `"display" <sip:user@our host>`.
fn address(theirs: &NameAddress, trunk: &Trunk) -> NameAddress {
    let uri = match &theirs.uri {
        // The host of an anonymous caller says nothing and must stay (RFC 3323 §4.1.1.3).
        Uri::Sip(uri) if is_anonymous(&theirs.uri) => SipUri {
            host: uri.host.clone(),
            ..rehosted(&theirs.uri, "", None)
        },
        uri => rehosted(uri, &trunk.host, None),
    };
    let mut address = NameAddress::new(uri);
    if let Some(name) = theirs.display_name() {
        address.set_display_name(&name);
    }
    address
}

/// Tells `to` for whom the call was forwarded, in its form. `called` is the Request-URI.
pub(super) fn carry_forwarding(theirs: &Headers, to: &Trunk, called: &SipUri, ours: &mut Headers) {
    let form = to.sip.forwarding();
    if form == Forwarding::Off {
        return;
    }
    let chain = forwardings(theirs);
    match form {
        Forwarding::Diversion => {
            for forwarded in chain.iter().rev() {
                let mut address = NameAddress::new(rehosted(&forwarded.uri, &to.host, None));
                address.parameters.set("reason", reason(forwarded.cause));
                address.parameters.set("counter", 1);
                ours.push(HeaderName::Diversion, address);
            }
        }
        Forwarding::HistoryInfo if !chain.is_empty() => {
            let mut index = String::from("1");
            // Teams writes the proxy's name, and takes it so.
            let host = if to.sip.is_teams() {
                &called.host
            } else {
                &to.host
            };
            for forwarded in &chain {
                let mut uri = rehosted(&forwarded.uri, host, None);
                uri.headers = Some(format!("Reason=SIP%3Bcause%3D{}", forwarded.cause).into());
                let mut address = NameAddress::new(uri);
                address.parameters.set("index", &index);
                ours.push(HeaderName::HistoryInfo, address);
                index.push_str(".1");
            }
            let mut address = NameAddress::new(called.clone());
            address.parameters.set("index", &index);
            ours.push(HeaderName::HistoryInfo, address);
        }
        Forwarding::HistoryInfo | Forwarding::Off => {}
    }
}

/// Who forwarded the call, the first one first.
fn forwardings(headers: &Headers) -> Vec<Forwarded> {
    let mut chain = from_history(headers);
    if chain.is_empty() {
        // The last one stands on top (RFC 5806 §3.2).
        let diversions = headers.addresses(HeaderName::Diversion).unwrap_or_default();
        chain = diversions.iter().map(from_diversion).collect();
        chain.truncate(FORWARDINGS);
        chain.reverse();
    }
    chain.truncate(FORWARDINGS);
    chain
}

fn from_diversion(address: &NameAddress) -> Forwarded {
    let reason = address.parameters.unquoted("reason").unwrap_or_default();
    let known = REASONS
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(&reason));
    Forwarded {
        uri: address.uri.clone(),
        cause: known.map_or(404, |(_, cause)| *cause),
    }
}

/// The entries that the call left: they say why themselves, by Reason (RFC 7044 §10.2), or the
/// entries that it went to do, by `cause` (RFC 4458, RFC 7544).
fn from_history(headers: &Headers) -> Vec<Forwarded> {
    let entries = headers
        .addresses(HeaderName::HistoryInfo)
        .unwrap_or_default();
    let mut causes: Vec<Option<u16>> = entries
        .iter()
        .map(|entry| cause_of(entry.uri.as_sip()?.headers.as_deref()?))
        .collect();
    for (place, entry) in entries.iter().enumerate() {
        let cause = entry
            .uri
            .as_sip()
            .and_then(|uri| uri.parameters.get("cause")?.parse().ok());
        // `mp` names the entry that the call was mapped from; else it is the one before.
        let from = entry.parameters.get("mp").and_then(|index| {
            let mut indices = entries.iter().map(|it| it.parameters.get("index"));
            indices.position(|known| known == Some(index))
        });
        let from = from.unwrap_or(place.saturating_sub(1));
        if let Some(known) = causes.get_mut(from) {
            *known = known.or(cause);
        }
    }
    let told = entries.into_iter().zip(causes);
    told.filter_map(|(entry, cause)| {
        Some(Forwarded {
            cause: cause.filter(|_| !matches!(entry.uri, Uri::Other(_)))?,
            uri: entry.uri,
        })
    })
    .collect()
}

/// The cause in a URI's escaped Reason.
fn cause_of(headers: &str) -> Option<u16> {
    let reason = headers
        .split('&')
        .filter_map(|header| header.split_once('='))
        .find(|(name, _)| name.eq_ignore_ascii_case("Reason"))?
        .1
        .to_ascii_lowercase();
    let reason = reason.replace("%3b", ";").replace("%3d", "=");
    let (protocol, rest) = reason.split_once(';')?;
    if protocol.trim() != "sip" {
        return None;
    }
    let cause = rest
        .split(';')
        .find_map(|part| part.trim().strip_prefix("cause="))?;
    let digits: String = cause.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

fn reason(cause: u16) -> &'static str {
    REASONS
        .iter()
        .find(|(_, known)| *known == cause)
        .map_or("unknown", |(name, _)| name)
}
