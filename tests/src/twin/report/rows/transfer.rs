//! Transfers by Teams, in both manners.

use std::time::{Duration, Instant};

use super::{
    Group, Row, demand, group,
    observe::{gap, heard, invites, only_allowed},
    row,
    stage::{Stage, StageSettings},
};
use crate::{
    lab::{LabError, Result},
    twin::{
        agent::{Arrival, SOON},
        call::Call,
        incoming::Incoming,
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
    Referred::new(stage, teams, carrier, target, by)
}

impl Referred {
    /// Sends a REFER in Teams' leg of a call that is up.
    fn new(stage: &Stage, teams: Call, carrier: Call, target: &str, by: &str) -> Result<Self> {
        let mark = stage.twin.agent.mark();
        let answer = teams.request(
            "REFER",
            &[("Refer-To", &format!("<{target}>")), ("Referred-By", by)],
            None,
        )?;
        Ok(Self {
            teams,
            carrier,
            answer,
            mark,
        })
    }

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
                Referred::new(stage, teams, carrier, TARGET, REFERRER)?.done(stage)?;
                Ok(())
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
                only_allowed(stage, referred.mark)
            },
        ),
        row(
            "transfer/over-new-connection",
            "REFER over a new connection from another proxy",
            |stage| {
                let (teams, carrier) = stage.teams_to_carrier()?;
                heard(&teams, &carrier)?;
                teams.go_over(&stage.twin.connect(2, stage.sbc_tls, super::stage::SBC)?);
                Referred::new(stage, teams, carrier, TARGET, REFERRER)?.done(stage)?;
                Ok(())
            },
        ),
        row(
            "transfer/media-stays",
            "the SBC's media does not move for it",
            |stage| {
                let referred = blind(stage)?;
                let targets = || -> Result<_> {
                    let [teams, carrier] = [&referred.teams, &referred.carrier].map(Call::sdp);
                    Ok([teams?.audio_target(), carrier?.audio_target()])
                };
                let before = targets()?;
                let _target = referred.done(stage)?;
                let after = targets()?;
                demand(after == before, || {
                    format!("Teams' old leg and the carrier's: {before:?}, then {after:?}")
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
