//! Ringing, early media, forks, and calls that were answered elsewhere.

use std::thread;

use super::{
    Group, Row, demand, group,
    observe::heard,
    row,
    stage::{Stage, StageSettings, connect, connect_with},
};
use crate::{
    lab::{LabError, Result, wait_until},
    twin::{
        agent::{SOON, token},
        incoming::Incoming,
        message::Message,
        outgoing::Outgoing,
        sdp::Sdp,
    },
};

pub(super) fn groups() -> Vec<Group> {
    let policy = |name, ringback: &str, row| Group {
        name,
        settings: StageSettings {
            carrier: format!("sip.ringback = \"{ringback}\"\n"),
            ..StageSettings::default()
        },
        rows: vec![row],
    };
    vec![
        group("ringing", rows()),
        group("elsewhere", elsewhere()),
        policy(
            "ringback-180",
            "ringing",
            row(
                "ringing/policy-180",
                "a policy turns 183 into 180",
                |stage| {
                    let (outgoing, mut incoming) = stage.carrier_calls_teams(|_| {})?;
                    incoming.progress(None, &[])?;
                    outgoing.wait_status(101..200, SOON)?;
                    let said = statuses(&outgoing);
                    demand(said == [180], || format!("the carrier hears {said:?}"))?;
                    let (caller, callee) = connect(outgoing, incoming)?;
                    heard(&caller, &callee)
                },
            ),
        ),
        policy(
            "ringback-first",
            "first-183",
            row(
                "ringing/policy-first-183",
                "a policy forwards only the first 183",
                |stage| {
                    let (outgoing, mut incoming) = stage.carrier_calls_teams(|_| {})?;
                    for _ in 0..3 {
                        incoming.progress(Some(&token()), &[])?;
                    }
                    outgoing.wait_status(101..200, SOON)?;
                    let (caller, callee, said) = connect_and_count(outgoing, incoming)?;
                    let progress = said.iter().filter(|&&status| status == 183).count();
                    demand(progress == 1, || format!("the carrier hears {said:?}"))?;
                    heard(&caller, &callee)
                },
            ),
        ),
    ]
}

fn statuses(outgoing: &Outgoing) -> Vec<u16> {
    let provisionals = outgoing.provisionals();
    provisionals.iter().filter_map(Message::status).collect()
}

/// Answers; what was heard of ringing is counted when nothing more can come.
fn connect_and_count(
    outgoing: Outgoing,
    incoming: Incoming,
) -> Result<(crate::twin::call::Call, crate::twin::call::Call, Vec<u16>)> {
    thread::scope(|scope| {
        let answering = scope.spawn(move || incoming.answer());
        outgoing.wait_status(200..700, SOON)?;
        let said = statuses(&outgoing);
        let caller = outgoing.answered(SOON)?;
        let callee = answering
            .join()
            .map_err(|_| LabError::new("answering panicked"))??;
        Ok((caller, callee, said))
    })
}

fn rows() -> Vec<Row> {
    vec![
        row(
            "ringing/180",
            "a 180 without SDP reaches the caller as that",
            |stage| {
                let (outgoing, mut incoming) = stage.carrier_calls_teams(|_| {})?;
                incoming.respond(180, "Ringing", None, &[])?;
                let ringing = outgoing.wait_status(101..200, SOON)?.message;
                demand(
                    ringing.status() == Some(180) && ringing.body.is_empty(),
                    || format!("{} with {} octets", ringing.start, ringing.body.len()),
                )
            },
        ),
        row(
            "ringing/forks",
            "several endpoints ring, each with a To-tag; one answers",
            |stage| {
                let (outgoing, mut incoming) = stage.carrier_calls_teams(|_| {})?;
                let tags = [token(), token(), token()];
                for tag in &tags {
                    incoming.respond(180, "Ringing", Some(tag), &[])?;
                }
                outgoing.wait_status(180..181, SOON)?;
                let winner = tags[2].clone();
                let (caller, callee) = connect_with(outgoing, move || {
                    incoming.answer_with(Some(&winner), &[], |_| {})
                })?;
                heard(&caller, &callee)?;
                caller.bye()?;
                callee.wait_bye(SOON).map(|_| ())
            },
        ),
        row("ringing/183", "early media of a 183 is heard", |stage| {
            let (outgoing, mut incoming) = stage.carrier_calls_teams(|_| {})?;
            incoming.progress(None, &[])?;
            let early = outgoing.wait_status(183..184, SOON)?;
            demand(Sdp::of(&early.message.body).is_some(), || {
                "the 183 has lost its SDP".to_owned()
            })?;
            outgoing.take_early(&early.message);
            outgoing.media.hears(&incoming.media, "the carrier")
        }),
        row(
            "ringing/183-then-180",
            "183, then 180, then an answer",
            |stage| {
                let (outgoing, mut incoming) = stage.carrier_calls_teams(|_| {})?;
                incoming.progress(None, &[])?;
                outgoing.wait_status(183..184, SOON)?;
                incoming.respond(180, "Ringing", None, &[])?;
                outgoing.wait_status(180..181, SOON)?;
                let (caller, callee) = connect(outgoing, incoming)?;
                heard(&caller, &callee)
            },
        ),
        row(
            "ringing/183-of-forks",
            "183 of several endpoints, then one answers",
            |stage| {
                let (outgoing, mut incoming) = stage.carrier_calls_teams(|_| {})?;
                let tags = [token(), token()];
                for tag in &tags {
                    incoming.progress(Some(tag), &[])?;
                }
                outgoing.wait_status(183..184, SOON)?;
                let winner = tags[1].clone();
                let (caller, callee) = connect_with(outgoing, move || {
                    incoming.answer_with(Some(&winner), &[], |_| {})
                })?;
                heard(&caller, &callee)
            },
        ),
    ]
}

fn elsewhere() -> Vec<Row> {
    vec![
        row(
            "elsewhere/reason",
            "CANCEL of Teams passes its Reason on",
            |stage| {
                let (mut outgoing, mut incoming) = stage.teams_calls_carrier(|_| {})?;
                incoming.respond(180, "Ringing", None, &[])?;
                outgoing.wait_status(180..181, SOON)?;
                let mark = stage.carrier.agent.mark();
                outgoing.cancel(Some("SIP;cause=200;text=\"Call completed elsewhere\""))?;
                let cancel = stage.carrier.agent.wait(mark, SOON, "CANCEL", |arrival| {
                    arrival.message.method() == "CANCEL"
                        && arrival.message.call_id() == incoming.invite().call_id()
                })?;
                let reason = cancel.message.header("Reason").unwrap_or_default();
                demand(
                    reason.contains("cause=200") && reason.contains("Call completed elsewhere"),
                    || format!("Reason: {reason:?}"),
                )
            },
        ),
        row(
            "elsewhere/cancel",
            "CANCEL of the carrier reaches Teams, which ends it by 487",
            |stage| {
                let (mut outgoing, mut incoming) = stage.carrier_calls_teams(|_| {})?;
                incoming.respond(180, "Ringing", None, &[])?;
                outgoing.wait_status(180..181, SOON)?;
                outgoing.cancel(None)?;
                let last = outgoing.wait_status(200..700, SOON)?;
                demand(last.message.status() == Some(487), || {
                    last.message.start.clone()
                })?;
                let stopped = wait_until(SOON, || !stage.twin.agent.is_pending(incoming.invite()));
                demand(stopped, || "Teams' endpoint still rings".to_owned())
            },
        ),
        row(
            "elsewhere/second-200",
            "the first 200 wins; a second one is acknowledged and ended",
            |stage| {
                let (outgoing, incoming) = stage.carrier_calls_teams(|_| {})?;
                second_answer(stage, outgoing, incoming)
            },
        ),
    ]
}

fn second_answer(stage: &Stage, outgoing: Outgoing, incoming: Incoming) -> Result<()> {
    let second = incoming.second_answer(&token())?;
    let (caller, callee) = connect(outgoing, incoming)?;
    let mark = stage.twin.agent.mark();
    let arrival = callee.opening.clone();
    stage.twin.agent.respond(&arrival, &second)?;
    let tag = second.to_tag().unwrap_or_default().to_owned();
    for method in ["ACK", "BYE"] {
        stage
            .twin
            .agent
            .wait(mark, SOON, &format!("{method} of the second"), |it| {
                it.message.is_request()
                    && it.message.method() == method
                    && it.message.to_tag() == Some(&tag)
            })?;
    }
    heard(&caller, &callee)
}
