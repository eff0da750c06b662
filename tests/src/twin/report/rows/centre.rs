//! Transfers by the contact centre, which Teams sees nothing of.

use std::time::Instant;

use super::{
    Group, Row, demand, group,
    observe::{gap, heard, only_allowed},
    row,
    stage::{Stage, connect},
};
use crate::{
    lab::{Party, Result, wait_until},
    twin::{agent::SOON, call::Call, incoming::Incoming},
};

pub(super) fn groups() -> Vec<Group> {
    vec![group("centre", centre())]
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

    /// Refers the call to a number of the carrier's: the INVITE there, and the URI.
    fn refer_to_carrier(&self, stage: &Stage) -> Result<(Incoming, String)> {
        self.refer_to(stage, &stage.number("+1777"))
    }

    fn refer_to(&self, stage: &Stage, number: &str) -> Result<(Incoming, String)> {
        let mark = stage.carrier.agent.mark();
        let to = format!("sip:{number}@{}", stage.sbc(Party::ContactCentre));
        self.refer(&to)?;
        Ok((stage.carrier.agent.incoming(mark, number, SOON)?, to))
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
        only_allowed(stage, self.mark)?;
        for arrival in self.teams.requests(self.mark, "INVITE") {
            demand(arrival.broken.is_empty(), || {
                format!("Teams' re-INVITE: {}", arrival.broken[0])
            })?;
        }
        Ok(())
    }
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
                let (target, _) = call.refer_to_carrier(stage)?;
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
                let (mut target, _) = call.refer_to_carrier(stage)?;
                target.respond(486, "Busy Here", None, &[])?;
                call.notified("486")?;
                heard(&call.teams, &call.centre)
            },
        ),
        row(
            "transfer/centre-fallback",
            "a target that its first trunk does not serve is reached by the next one",
            |stage| {
                let call = centre_call(stage)?;
                let number = stage.number("+1888");
                let mark = stage.centre.agent.mark();
                let (mut first, _) = call.refer_to(stage, &number)?;
                first.respond(503, "Service Unavailable", None, &[])?;
                let target = stage.centre.agent.incoming(mark, &number, SOON)?;
                let target = target.answer()?;
                call.notified("200")?;
                heard(&call.teams, &target)?;
                call.unseen(stage)
            },
        ),
        row(
            "transfer/centre-twice",
            "a second REFER while one is under way does no harm",
            |stage| {
                let call = centre_call(stage)?;
                let (target, to) = call.refer_to_carrier(stage)?;
                let second =
                    call.centre
                        .request("REFER", &[("Refer-To", &format!("<{to}>"))], None)?;
                demand(second.status() >= Some(300), || {
                    format!("the second REFER is answered {}", second.start)
                })?;
                let target = target.answer()?;
                heard(&call.teams, &target)
            },
        ),
    ]
}
