//! INVITE to Teams and from Teams; sizes, locations, routing.

use super::{
    Group, Row, demand, group,
    observe::{good_answer, heard, unbroken},
    row,
    stage::{INSIDE, SBC, Stage, StageSettings, connect},
    untestable,
};
use crate::{
    lab::{LabError, Result},
    twin::{
        agent::SOON,
        call::Call,
        incoming::Incoming,
        rules::Rule,
        sdp::{Description, Sdp},
        uri::Uri,
    },
};

pub(super) fn groups() -> Vec<Group> {
    vec![
        group("invite", [to(), from()].concat_rows()),
        group("bodies", [size(), emergency(), routing()].concat_rows()),
        Group {
            settings: StageSettings {
                inside: true,
                teams: format!("internal_address = \"{INSIDE}\""),
                ..StageSettings::default()
            },
            ..group("local-media", local_media())
        },
    ]
}

trait Concat {
    fn concat_rows(self) -> Vec<Row>;
}

impl<const N: usize> Concat for [Vec<Row>; N] {
    fn concat_rows(self) -> Vec<Row> {
        self.into_iter().flatten().collect()
    }
}

fn standard(stage: &Stage, rules: &[Rule]) -> Result<()> {
    let (_outgoing, incoming) = stage.carrier_calls_teams(|_| {})?;
    unbroken(&incoming.arrival, rules)
}

fn to() -> Vec<Row> {
    vec![
        row(
            "to/request-uri",
            "sip:+E164@sip.pstnhub.microsoft.com;user=phone",
            |stage| standard(stage, &[Rule::RequestName, Rule::RequestNumber]),
        ),
        row("to/from", "From is +E164@FQDN", |stage| {
            standard(stage, &[Rule::FromName])
        }),
        row(
            "to/contact",
            "Contact is <sip:+E164@FQDN:port;transport=tls>",
            |stage| {
                let (_outgoing, incoming) = stage.carrier_calls_teams(|_| {})?;
                let contact = incoming.invite().header("Contact").unwrap_or_default();
                let good = Uri::parse(contact)
                    .is_some_and(|uri| uri.is_e164() && uri.host == SBC && uri.port == Some(5061));
                demand(good, || format!("Contact: {contact}"))
            },
        ),
        row("to/via", "Via holds the FQDN and alias", |stage| {
            standard(stage, &[Rule::ViaName, Rule::ViaAlias])
        }),
        row(
            "to/offer",
            "there is always an offer, also for a call that came without",
            |stage| {
                let (outgoing, incoming) = stage.carrier_calls_teams(|invite| {
                    invite.offerless = true;
                })?;
                let (caller, callee) = connect(outgoing, incoming)?;
                heard(&caller, &callee)
            },
        ),
        row(
            "to/product",
            "X-MS-SBC: Vendor/Model/Version (E)",
            |stage| standard(stage, &[Rule::NoProduct]),
        ),
        row(
            "to/dialog",
            "requests in the call keep to the route and the Contact of Teams",
            |stage| {
                let (caller, callee) = stage.carrier_to_teams()?;
                caller.bye()?;
                let bye = callee.wait_bye(SOON)?;
                unbroken(&bye, &[Rule::RouteSet, Rule::RequestTarget])
            },
        ),
    ]
}

/// A header of the INVITE that reaches the carrier.
fn carried(incoming: &Incoming, header: &str) -> String {
    incoming.invite().all(header).collect::<Vec<_>>().join(", ")
}

fn from() -> Vec<Row> {
    vec![
        row(
            "from/accepted",
            "a call to the SBC's FQDN is taken, and its answer with it",
            |stage| {
                let (caller, callee) = stage.teams_to_carrier()?;
                good_answer(&caller.opening.message)?;
                heard(&caller, &callee)
            },
        ),
        row("from/user-number", "From with the user's number", |stage| {
            let (_outgoing, incoming) = stage.teams_calls_carrier(|_| {})?;
            let from = carried(&incoming, "From");
            demand(from.contains("+15550199@"), || format!("From: {from}"))
        }),
        row(
            "from/policy-number",
            "From with the policy's number, another than the user's",
            |stage| {
                let (_outgoing, incoming) = stage.teams_calls_carrier(|invite| {
                    invite.from = invite.from.replace("+15550199", "+15550999");
                })?;
                let from = carried(&incoming, "From");
                demand(from.contains("+15550999@"), || format!("From: {from}"))
            },
        ),
        row(
            "from/anonymous",
            "From: anonymous@anonymous.invalid stays anonymous",
            |stage| {
                let (_outgoing, incoming) = stage.teams_calls_carrier(|invite| {
                    invite.from = "\"Anonymous\" <sip:anonymous@anonymous.invalid>".to_owned();
                    invite.headers.push(("Privacy".to_owned(), "id".to_owned()));
                })?;
                let from = carried(&incoming, "From");
                demand(
                    from.contains("anonymous") && !from.contains("+15550199"),
                    || format!("From: {from}"),
                )
            },
        ),
        row(
            "from/billed-user",
            "the billed user's P-Asserted-Identity reaches the carrier",
            |stage| {
                let (_outgoing, incoming) = stage.teams_calls_carrier(|invite| {
                    invite.from = invite.from.replace("+15550199", "+15550999");
                })?;
                let asserted = carried(&incoming, "P-Asserted-Identity");
                demand(asserted.contains("+15550199"), || {
                    format!("P-Asserted-Identity: {asserted:?}")
                })
            },
        ),
        row(
            "from/privacy",
            "Privacy: id hides the caller, or is passed on",
            |stage| {
                let (_outgoing, incoming) = stage.teams_calls_carrier(|invite| {
                    invite.headers.push(("Privacy".to_owned(), "id".to_owned()));
                })?;
                let (privacy, from) = (carried(&incoming, "Privacy"), carried(&incoming, "From"));
                demand(privacy.contains("id") || from.contains("anonymous"), || {
                    format!("Privacy: {privacy:?}, From: {from}")
                })
            },
        ),
    ]
}

/// Teams' ICE ufrag and password.
pub const FRAGMENT: &str = "8Gha";
pub(super) const PASSWORD: &str = "5QgdfhjQvdTmAvtxLMRH4h8X";

/// What Teams offers for media bypass: many candidates, and more than one packet takes.
pub(super) fn bypass_offer(description: &mut Description) {
    let port = description.address.port();
    let ip = description.address.ip();
    description.extra.push(format!("ice-ufrag:{FRAGMENT}"));
    description.extra.push(format!("ice-pwd:{PASSWORD}"));
    for candidate in 1..=12 {
        for component in 1..=2 {
            description.extra.push(format!(
                "candidate:{candidate} {component} UDP {} {ip} {} typ relay raddr 10.0.0.{candidate} \
                 rport {}",
                2_130_706_431u32 - candidate * 1_000 - component,
                port,
                50_000 + candidate
            ));
        }
    }
    description
        .extra
        .push(format!("remote-candidates:1 {ip} {port} 2 {ip} {port}"));
}

fn size() -> Vec<Row> {
    vec![
        row(
            "size/large",
            "an INVITE of more than 1,500 bytes is taken",
            |stage| {
                let (outgoing, incoming) =
                    stage.teams_calls_carrier(|invite| invite.adjust = bypass_offer)?;
                demand(outgoing.request.octets().len() > 1_500, || {
                    "the INVITE is too short to show it".to_owned()
                })?;
                drop(incoming);
                Ok(())
            },
        ),
        row(
            "size/udp",
            "ICE is stripped towards UDP trunks, and what goes fits a packet",
            |stage| {
                let (_outgoing, incoming) =
                    stage.teams_calls_carrier(|invite| invite.adjust = bypass_offer)?;
                let octets = incoming.invite().octets().len();
                let body = &incoming.invite().body;
                demand(
                    octets <= 1_472 && !body.contains("a=candidate") && !body.contains("a=ice-"),
                    || format!("{octets} octets reach the carrier:\n{body}"),
                )
            },
        ),
    ]
}

/// What Teams says of a user's place.
const fn place(location: &str) -> [(&str, &str); 3] {
    [
        ("X-MS-UserLocation", location),
        ("X-MS-MediaPath", "sbc.example.com"),
        ("X-MS-UserSite", "DE-Berlin"),
    ]
}

fn call_from(stage: &Stage, location: &str) -> Result<(Call, Call)> {
    let number = stage.number("+1777");
    let mark = stage.carrier.agent.mark();
    let outgoing = stage.teams_dials(&number, |invite| {
        for (name, value) in place(location) {
            invite.headers.push((name.to_owned(), value.to_owned()));
        }
    })?;
    let incoming = stage.carrier.agent.incoming(mark, &number, SOON)?;
    connect(outgoing, incoming)
}

fn with_location(stage: &Stage, location: &str) -> Result<(Sdp, bool)> {
    let (caller, callee) = call_from(stage, location)?;
    Ok((
        good_answer(&caller.opening.message)?,
        heard(&caller, &callee).is_ok(),
    ))
}

fn local_media() -> Vec<Row> {
    vec![
        row(
            "local-media/taken",
            "calls with X-MS-UserLocation and its kin are served",
            |stage| {
                for location in ["internal", "external"] {
                    let (_, heard) = with_location(stage, location)?;
                    demand(heard, || format!("{location}: not heard both ways"))?;
                }
                Ok(())
            },
        ),
        row(
            "local-media/address",
            "an internal user gets another media address than an external one",
            |stage| {
                let (internal, _) = with_location(stage, "internal")?;
                let (external, _) = with_location(stage, "external")?;
                demand(internal.audio_address() != external.audio_address(), || {
                    format!(
                        "both get {}: no address can be set for internal users",
                        internal.audio_address().unwrap_or_default()
                    )
                })
            },
        ),
        row(
            "local-media/reinvite",
            "so does a user who goes elsewhere in mid-call, and nobody else",
            |stage| {
                let (caller, callee) = call_from(stage, "internal")?;
                heard(&caller, &callee)?;
                let inside = caller.sdp()?.audio_target().map(|it| it.ip());
                caller.refresh(&[])?;
                let refreshed = caller.sdp()?.audio_target().map(|it| it.ip());
                demand(refreshed == inside, || {
                    format!("a refresh moves it to {refreshed:?}")
                })?;
                caller.change_endpoint();
                caller.reinvite(&place("external"), |_| {})?;
                let outside = caller.sdp()?.audio_target().map(|it| it.ip());
                demand(outside != inside, || format!("it stays at {outside:?}"))?;
                heard(&caller, &callee)
            },
        ),
    ]
}

const LOCATION: &str = "<?xml version=\"1.0\" encoding=\"utf-8\"?>\r\n\
    <presence xmlns=\"urn:ietf:params:xml:ns:pidf\" entity=\"sip:adele@contoso.example\">\
    <tuple id=\"0\"><status><geopriv xmlns=\"urn:ietf:params:xml:ns:pidf:geopriv10\">\
    <location-info><civicAddress xmlns=\"urn:ietf:params:xml:ns:pidf:geopriv10:civicAddr\">\
    <country>US</country><A1>WA</A1><ELIN>+15550911</ELIN></civicAddress></location-info>\
    </geopriv></status></tuple></presence>";

fn emergency_call(stage: &Stage) -> Result<Incoming> {
    let (outgoing, incoming) = stage.teams_calls_carrier(|invite| {
        invite.part = Some(("application/pidf+xml", LOCATION.to_owned()));
        invite.headers.push((
            "Geolocation".to_owned(),
            "<cid:target@microsoft.com>".to_owned(),
        ));
    })?;
    drop(outgoing);
    Ok(incoming)
}

fn emergency() -> Vec<Row> {
    vec![
        row(
            "emergency/multipart",
            "an INVITE with a PIDF-LO body beside its SDP is served",
            |stage| {
                let incoming = emergency_call(stage)?;
                incoming.offer().map(|_| ())
            },
        ),
        row(
            "emergency/location",
            "the PIDF-LO body is passed on",
            |stage| {
                let incoming = emergency_call(stage)?;
                let body = &incoming.invite().body;
                demand(body.contains("<location-info>"), || {
                    "the carrier's INVITE holds no location".to_owned()
                })
            },
        ),
        row(
            "emergency/elin",
            "ELIN: the location's number takes the caller's place",
            |stage| {
                let incoming = emergency_call(stage)?;
                let from = carried(&incoming, "From");
                demand(from.contains("+15550911"), || format!("From: {from}"))
            },
        ),
        row(
            "emergency/callback",
            "a call back to the location's number reaches the caller",
            |stage| {
                let _ = emergency_call(stage)?;
                let mark = stage.twin.agent.mark();
                let _calling = stage.plain_dials(
                    &stage.carrier,
                    crate::lab::Party::Carrier,
                    "+15550911",
                    |_| {},
                )?;
                stage
                    .twin
                    .agent
                    .incoming(mark, "+15550199", SOON)
                    .map(|_| ())
                    .map_err(|_| LabError::new("the call back does not reach Teams"))
            },
        ),
    ]
}

fn routing() -> Vec<Row> {
    vec![
        untestable(
            "routing/policy",
            "policy, PSTN usages, routes by priority, a random gateway",
            "made in the tenant, before the INVITE",
        ),
        row(
            "routing/no-match",
            "a number without a route is refused",
            |stage| {
                let mut call = stage.teams_dials("+19990000", |_| {})?;
                let refusal = call.refused(SOON)?;
                demand(
                    refusal.status().is_some_and(|it| (400..500).contains(&it)),
                    || refusal.start.clone(),
                )
            },
        ),
        untestable(
            "routing/translations",
            "four lists of number translations for each SBC, up to 400 rules",
            "made in the tenant, before the INVITE",
        ),
    ]
}
