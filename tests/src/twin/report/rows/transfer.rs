//! Transfers: by Teams in both manners, and by the contact centre.

use std::time::{Duration, Instant};

use super::{
    Group, Row, demand, group,
    observe::{forbidden, heard, invites},
    row,
    stage::{Stage, StageSettings, connect},
};
use crate::{
    lab::{LabError, Party, Result, wait_until},
    twin::{
        agent::{Arrival, SOON},
        call::{Call, Incoming},
        media::apart,
        message::Message,
    },
};

pub(super) fn groups() -> Vec<Group> {
    vec![
        group("refer", refer()),
        Group {
            name: "replaces",
            settings: StageSettings {
                teams: "sip.refer = false\n".to_owned(),
                ..StageSettings::default()
            },
            rows: replaces(),
        },
        group("centre", centre()),
    ]
}

/// Where Teams sends a call: words that mean something to Teams alone.
const TARGET: &str = "sip:+15550300@sip.pstnhub.microsoft.com:5061;user=phone;transport=tls;\
    x-m=8%3Aorgid%3A7a6b1d6c-3d9c-4a3b-8b0f-000000000001;\
    x-t=8f0c9c4e-1111-2222-3333-444444444444%2Fv2";
const REFERRER: &str = "<sip:sip.pstnhub.microsoft.com:5061;\
    x-m=8%3Aorgid%3A7a6b1d6c-3d9c-4a3b-8b0f-000000000002;\
    x-ti=8f0c9c4e-1111-2222-3333-444444444444;x-tt=aHR0cHM6Ly9hcGk=>";

/// A call of Teams' over the carrier, and what came of a REFER in it.
struct Referred {
    teams: Call,
    carrier: Call,
    answer: Message,
    mark: usize,
}

fn refers(stage: &Stage, target: &str, by: &str) -> Result<Referred> {
    let (teams, carrier) = stage.teams_to_carrier()?;
    heard(&teams, &carrier)?;
    let mark = stage.twin.agent.mark();
    let answer = teams.request(
        "REFER",
        &[("Refer-To", &format!("<{target}>")), ("Referred-By", by)],
        None,
    )?;
    Ok(Referred {
        teams,
        carrier,
        answer,
        mark,
    })
}

impl Referred {
    fn accepted(&self) -> Result<()> {
        demand(self.answer.status() == Some(202), || {
            format!("REFER is answered {}", self.answer.start)
        })
    }

    /// The INVITE that comes back to a proxy.
    fn invite(&self, stage: &Stage) -> Result<Incoming> {
        self.accepted()?;
        let found =
            stage
                .twin
                .agent
                .wait(self.mark, SOON, "the INVITE back to a proxy", |arrival| {
                    let message = &arrival.message;
                    message.is_request()
                        && message.method() == "INVITE"
                        && message.to_tag().is_none()
                })?;
        if let Some(rule) = found.broken.iter().find(|rule| rule.refusal().is_some()) {
            return Err(LabError::new(format!("Teams refuses the INVITE: {rule}")));
        }
        stage.twin.agent.take(found)
    }

    /// Waits for a NOTIFY with such a line.
    fn notified(&self, status: &str) -> Result<Arrival> {
        self.teams
            .wait_request(self.mark, "NOTIFY", SOON, |message| {
                message.body.starts_with(&format!("SIP/2.0 {status}"))
            })
            .map_err(|error| LabError::new(format!("no NOTIFY of {status}: {error}")))
    }

    /// The whole of it: the target answers, Teams ends the old leg.
    fn done(&self, stage: &Stage) -> Result<Call> {
        let target = self.invite(stage)?.answer()?;
        self.notified("200")?;
        self.teams.bye()?;
        heard(&target, &self.carrier)?;
        Ok(target)
    }
}

fn blind(stage: &Stage) -> Result<Referred> {
    refers(stage, TARGET, REFERRER)
}

fn allow(stage: &Stage) -> Result<Vec<String>> {
    let (teams, _carrier) = stage.teams_to_carrier()?;
    Ok(teams.opening.message.list("Allow"))
}

fn refer() -> Vec<Row> {
    vec![
        row(
            "transfer/allow",
            "REFER and NOTIFY are in our Allow",
            |stage| {
                let allow = allow(stage)?;
                let has = |method: &str| allow.iter().any(|known| known == method);
                demand(has("REFER") && has("NOTIFY"), || {
                    format!("Allow: {allow:?}")
                })
            },
        ),
        row(
            "transfer/202",
            "Teams' REFER is answered with 202",
            |stage| blind(stage)?.accepted(),
        ),
        row(
            "transfer/notify",
            "the progress is told: NOTIFY with sipfrag, 100 first, 200 last",
            |stage| {
                let referred = blind(stage)?;
                referred.accepted()?;
                let first = referred.notified("100")?;
                let event = first.message.header("Event").unwrap_or_default().to_owned();
                let state = first
                    .message
                    .header("Subscription-State")
                    .unwrap_or_default()
                    .to_owned();
                demand(
                    event.starts_with("refer") && state.starts_with("active"),
                    || format!("Event: {event}, Subscription-State: {state}"),
                )?;
                let kind = first.message.header("Content-Type").unwrap_or_default();
                demand(kind.starts_with("message/sipfrag"), || {
                    format!("Content-Type: {kind}")
                })?;
                referred.invite(stage)?.answer()?;
                let last = referred.notified("200")?;
                let state = last
                    .message
                    .header("Subscription-State")
                    .unwrap_or_default();
                demand(state.starts_with("terminated"), || {
                    format!("the last Subscription-State: {state}")
                })
            },
        ),
        row(
            "transfer/invite-back",
            "an INVITE to the proxy with the Refer-To word for word",
            |stage| {
                let referred = blind(stage)?;
                let invite = referred.invite(stage)?;
                let uri = invite.invite().uri().to_owned();
                demand(uri == TARGET, || format!("the Request-URI is {uri}"))
            },
        ),
        row(
            "transfer/referred-by",
            "and Referred-By word for word",
            |stage| {
                let referred = blind(stage)?;
                let invite = referred.invite(stage)?;
                let by = invite.invite().header("Referred-By").unwrap_or_default();
                demand(by == REFERRER, || format!("Referred-By: {by}"))
            },
        ),
        row(
            "transfer/400-characters",
            "also when they are 400 characters long",
            |stage| {
                let pad = |text: &str, behind: &str| {
                    let missing = 400usize.saturating_sub(text.len() + behind.len());
                    format!("{text}{}{behind}", "a".repeat(missing))
                };
                let target = pad(&format!("{TARGET};x-pad="), "");
                let by = pad(&format!("{};x-pad=", REFERRER.trim_end_matches('>')), ">");
                let referred = refers(stage, &target, &by)?;
                let invite = referred.invite(stage)?;
                demand(
                    invite.invite().uri() == target
                        && invite.invite().header("Referred-By") == Some(&by),
                    || invite.invite().start.clone(),
                )
            },
        ),
        row(
            "transfer/pstn-target",
            "a PSTN target goes to the proxy as well",
            |stage| {
                let number = stage.number("+1777");
                let target = TARGET.replace("+15550300", &number);
                let carrier = stage.carrier.agent.mark();
                let referred = refers(stage, &target, REFERRER)?;
                referred.invite(stage)?;
                let short_cut =
                    stage
                        .carrier
                        .agent
                        .incoming(carrier, &number, Duration::from_millis(200));
                demand(short_cut.is_err(), || {
                    "the SBC has called the number itself".to_owned()
                })
            },
        ),
        row(
            "transfer/blind",
            "the target and the other party hear each other, the old leg is gone",
            |stage| {
                let referred = blind(stage)?;
                let target = referred.done(stage)?;
                let mark = stage.carrier.agent.mark();
                target.bye()?;
                referred.carrier.wait_bye(SOON)?;
                let byes = referred.carrier.requests(mark, "BYE").len();
                demand(byes <= 1, || format!("{byes} BYEs"))
            },
        ),
        row(
            "transfer/called-by-carrier",
            "also in a call that the carrier began",
            |stage| {
                let (carrier, teams) = stage.carrier_to_teams()?;
                heard(&carrier, &teams)?;
                let mark = stage.twin.agent.mark();
                let answer = teams.request(
                    "REFER",
                    &[
                        ("Refer-To", &format!("<{TARGET}>")),
                        ("Referred-By", REFERRER),
                    ],
                    None,
                )?;
                Referred {
                    teams,
                    carrier,
                    answer,
                    mark,
                }
                .done(stage)
                .map(|_| ())
            },
        ),
        row(
            "transfer/attended",
            "attended by Teams, who had asked the target before",
            |stage| {
                let referred = blind(stage)?;
                let (asked, other) = stage.teams_to_carrier()?;
                let target = referred.done(stage)?;
                asked.bye()?;
                other.wait_bye(SOON)?;
                heard(&target, &referred.carrier)?;
                let seen = forbidden(stage, referred.mark);
                demand(seen.is_empty(), || format!("Teams saw {seen:?}"))
            },
        ),
        row(
            "transfer/over-new-connection",
            "REFER over a new connection from another proxy",
            |stage| {
                let (teams, carrier) = stage.teams_to_carrier()?;
                heard(&teams, &carrier)?;
                let mark = stage.twin.agent.mark();
                teams.go_over(&stage.twin.connect(2, stage.sbc_tls, super::stage::SBC)?);
                let answer = teams.request(
                    "REFER",
                    &[
                        ("Refer-To", &format!("<{TARGET}>")),
                        ("Referred-By", REFERRER),
                    ],
                    None,
                )?;
                Referred {
                    teams,
                    carrier,
                    answer,
                    mark,
                }
                .done(stage)
                .map(|_| ())
            },
        ),
        row(
            "transfer/media-stays",
            "the SBC's media does not move for it",
            |stage| {
                let referred = blind(stage)?;
                let before = referred.teams.sdp()?.audio_target();
                let _target = referred.done(stage)?;
                demand(referred.teams.sdp()?.audio_target() == before, || {
                    "the old leg was told another address".to_owned()
                })
            },
        ),
        row("transfer/gap", "the gap is under 100 ms", |stage| {
            let referred = blind(stage)?;
            let begun = Instant::now();
            let target = referred.done(stage)?;
            gap(&referred.carrier, &referred.teams, &target, begun)
        }),
        row(
            "transfer/failed",
            "a failed transfer is told and gives the call back",
            |stage| {
                let referred = blind(stage)?;
                referred
                    .invite(stage)?
                    .respond(486, "Busy Here", None, &[])?;
                referred.notified("486")?;
                heard(&referred.teams, &referred.carrier)
            },
        ),
        row(
            "transfer/never-again",
            "a failed transfer is not tried again",
            |stage| {
                let referred = blind(stage)?;
                referred
                    .invite(stage)?
                    .respond(480, "Temporarily Unavailable", None, &[])?;
                referred.notified("480")?;
                heard(&referred.teams, &referred.carrier)?;
                let tries = invites(stage, referred.mark).len();
                demand(tries == 1, || format!("{tries} INVITEs"))
            },
        ),
    ]
}

/// Teams' new INVITE with Replaces for a call of its own.
fn replace(stage: &Stage, teams: &Call) -> Result<Call> {
    let [own, theirs] = teams.tags();
    let replaces = format!("{};to-tag={theirs};from-tag={own}", teams.call_id());
    stage
        .teams_dials("+15550100", |invite| {
            invite.headers.push(("Replaces".to_owned(), replaces));
            invite
                .headers
                .push(("Referred-By".to_owned(), REFERRER.to_owned()));
        })?
        .answered(SOON)
}

fn replaces() -> Vec<Row> {
    vec![
        row(
            "transfer/no-refer-allow",
            "a setting takes REFER out of our Allow; NOTIFY stays",
            |stage| {
                let allow = allow(stage)?;
                let has = |method: &str| allow.iter().any(|known| known == method);
                demand(!has("REFER") && has("NOTIFY"), || {
                    format!("Allow: {allow:?}")
                })
            },
        ),
        row(
            "transfer/replaces",
            "Teams' new INVITE with Replaces takes the call over",
            |stage| {
                let (teams, carrier) = stage.teams_to_carrier()?;
                heard(&teams, &carrier)?;
                let target = replace(stage, &teams)?;
                teams.wait_bye(SOON)?;
                heard(&target, &carrier)?;
                demand(!carrier.has_ended(), || {
                    "the carrier's leg has ended".to_owned()
                })
            },
        ),
        row(
            "transfer/replaces-called",
            "also a call that the carrier began",
            |stage| {
                let (carrier, teams) = stage.carrier_to_teams()?;
                heard(&teams, &carrier)?;
                let target = replace(stage, &teams)?;
                teams.wait_bye(SOON)?;
                heard(&target, &carrier)
            },
        ),
        row(
            "transfer/replaces-nothing",
            "Replaces for a call that is not there earns a 481",
            |stage| {
                let mut call = stage.teams_dials("+15550100", |invite| {
                    invite.headers.push((
                        "Replaces".to_owned(),
                        "nothing@example.com;to-tag=1;from-tag=2".to_owned(),
                    ));
                })?;
                let refusal = call.refused(SOON)?;
                demand(refusal.status() == Some(481), || refusal.start.clone())
            },
        ),
    ]
}

/// The contact centre sends REFER in a call with Teams.
struct Centre {
    teams: Call,
    centre: Call,
    mark: usize,
    notices: usize,
}

fn centre_call(stage: &Stage) -> Result<Centre> {
    let (outgoing, incoming) = stage.teams_calls_centre()?;
    let (teams, centre) = connect(outgoing, incoming)?;
    heard(&teams, &centre)?;
    Ok(Centre {
        teams,
        centre,
        mark: stage.twin.agent.mark(),
        notices: stage.centre.agent.mark(),
    })
}

impl Centre {
    fn refer(&self, to: &str) -> Result<()> {
        let answer = self
            .centre
            .request("REFER", &[("Refer-To", &format!("<{to}>"))], None)?;
        demand(answer.status() == Some(202), || {
            format!("REFER is answered {}", answer.start)
        })
    }

    fn notified(&self, status: &str) -> Result<()> {
        self.centre
            .wait_request(self.notices, "NOTIFY", SOON, |message| {
                message.body.starts_with(&format!("SIP/2.0 {status}"))
            })
            .map(|_| ())
    }

    /// Teams has seen nothing of it but re-INVITEs that leave its media where it is.
    fn unseen(&self, stage: &Stage) -> Result<()> {
        let seen = forbidden(stage, self.mark);
        demand(seen.is_empty(), || format!("Teams saw {seen:?}"))?;
        for arrival in self.teams.requests(self.mark, "INVITE") {
            demand(arrival.broken.is_empty(), || {
                format!("Teams' re-INVITE: {}", arrival.broken[0])
            })?;
        }
        Ok(())
    }
}

/// Of what a party says, the old listener has heard the beginning and the new one the rest: the time
/// in between is short.
fn gap(speaker: &Call, old: &Call, new: &Call, since: Instant) -> Result<()> {
    let missing = || LabError::new("the party is not heard on both sides of the transfer");
    // The old listener's last words may come from before.
    let before = since.checked_sub(SOON).unwrap_or(since);
    let (_, last) = old.media.span(&speaker.media, before).ok_or_else(missing)?;
    let (first, _) = new.media.span(&speaker.media, since).ok_or_else(missing)?;
    let gap = apart(last, first);
    demand(gap < Duration::from_millis(100), || {
        format!(
            "nobody hears {} for {} ms",
            speaker.agent.name(),
            gap.as_millis()
        )
    })
}

/// The contact centre has asked somebody at the carrier, and puts them through.
fn attended(stage: &Stage) -> Result<(Centre, Call, Call, Instant)> {
    let call = centre_call(stage)?;
    let number = stage.number("+1777");
    let mark = stage.carrier.agent.mark();
    let asking = stage.plain_dials(&stage.centre, Party::ContactCentre, &number, |_| {})?;
    let asked = stage.carrier.agent.incoming(mark, &number, SOON)?;
    let (asking, asked) = connect(asking, asked)?;
    heard(&asking, &asked)?;
    let [own, theirs] = asking.tags();
    let sbc = stage.sbc(Party::ContactCentre);
    let begun = Instant::now();
    call.refer(&format!(
        "sip:{number}@{sbc}?Replaces={}%3Bto-tag%3D{theirs}%3Bfrom-tag%3D{own}",
        asking.call_id()
    ))?;
    call.notified("200")?;
    let ended = wait_until(SOON, || asking.has_ended());
    demand(ended, || "the call that asked is still up".to_owned())?;
    Ok((call, asking, asked, begun))
}

fn centre() -> Vec<Row> {
    vec![
        row(
            "transfer/centre-blind",
            "REFER of the contact centre is carried out here; Teams sees none of it",
            |stage| {
                let call = centre_call(stage)?;
                let number = stage.number("+1777");
                let carrier = stage.carrier.agent.mark();
                let sbc = stage.sbc(Party::ContactCentre);
                call.refer(&format!("sip:{number}@{sbc}"))?;
                let target = stage.carrier.agent.incoming(carrier, &number, SOON)?;
                let target = target.answer()?;
                call.notified("200")?;
                heard(&call.teams, &target)?;
                call.unseen(stage)
            },
        ),
        row(
            "transfer/centre-to-teams",
            "also towards Teams, from a call with the carrier",
            |stage| {
                let number = stage.number("+1555");
                let mark = stage.centre.agent.mark();
                let outgoing =
                    stage.plain_dials(&stage.carrier, Party::Carrier, &number, |_| {})?;
                let incoming = stage.centre.agent.incoming(mark, &number, SOON)?;
                let (carrier, centre) = connect(outgoing, incoming)?;
                let user = stage.number("+1666");
                let teams = stage.twin.agent.mark();
                let sbc = stage.sbc(Party::ContactCentre);
                let answer = centre.request(
                    "REFER",
                    &[("Refer-To", &format!("<sip:{user}@{sbc}>"))],
                    None,
                )?;
                demand(answer.status() == Some(202), || {
                    format!("REFER is answered {}", answer.start)
                })?;
                let target = stage.twin.agent.incoming(teams, &user, SOON)?;
                let broken = target.arrival.broken.clone();
                demand(broken.iter().all(|rule| rule.refusal().is_none()), || {
                    format!("Teams refuses the INVITE: {broken:?}")
                })?;
                let target = target.answer()?;
                heard(&target, &carrier)
            },
        ),
        row(
            "transfer/centre-attended",
            "attended, with Replaces: both parties hear each other",
            |stage| {
                let (call, _asking, asked, _) = attended(stage)?;
                heard(&call.teams, &asked)?;
                call.unseen(stage)
            },
        ),
        row("transfer/centre-gap", "the gap is under 100 ms", |stage| {
            let (call, asking, asked, begun) = attended(stage)?;
            heard(&call.teams, &asked)?;
            gap(&call.teams, &call.centre, &asked, begun)?;
            gap(&asked, &asking, &call.teams, begun)
        }),
        row(
            "transfer/centre-failed",
            "a target that refuses gives the call back",
            |stage| {
                let call = centre_call(stage)?;
                let number = stage.number("+1777");
                let carrier = stage.carrier.agent.mark();
                let sbc = stage.sbc(Party::ContactCentre);
                call.refer(&format!("sip:{number}@{sbc}"))?;
                let mut target = stage.carrier.agent.incoming(carrier, &number, SOON)?;
                target.respond(486, "Busy Here", None, &[])?;
                call.notified("486")?;
                heard(&call.teams, &call.centre)
            },
        ),
        row(
            "transfer/centre-twice",
            "a second REFER while one is under way does no harm",
            |stage| {
                let call = centre_call(stage)?;
                let number = stage.number("+1777");
                let carrier = stage.carrier.agent.mark();
                let sbc = stage.sbc(Party::ContactCentre);
                call.refer(&format!("sip:{number}@{sbc}"))?;
                let target = stage.carrier.agent.incoming(carrier, &number, SOON)?;
                let second = call.centre.request(
                    "REFER",
                    &[("Refer-To", &format!("<sip:{number}@{sbc}>"))],
                    None,
                )?;
                demand(second.status() >= Some(300), || {
                    format!("the second REFER is answered {}", second.start)
                })?;
                let target = target.answer()?;
                heard(&call.teams, &target)
            },
        ),
    ]
}
