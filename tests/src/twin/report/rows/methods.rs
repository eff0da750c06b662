//! Session timers, what Teams does not know, and error codes.

use std::thread;

use super::{
    Group, Row, demand, group,
    observe::{heard, invites, only_allowed, sbc_key},
    row,
    stage::{StageSettings, connect, connect_with},
};
use crate::{
    lab::LabError,
    twin::{
        agent::SOON,
        message::{Message, parameter},
    },
};

pub(super) fn groups() -> Vec<Group> {
    vec![
        group("timer", timer()),
        Group {
            name: "timer-out",
            settings: StageSettings {
                teams: "sip.session_expires = 1800\n".to_owned(),
                ..StageSettings::default()
            },
            rows: vec![row(
                "timer/to-teams",
                "offered to Teams where media is not bypassed",
                |stage| {
                    let (_outgoing, incoming) = stage.carrier_calls_teams(|_| {})?;
                    let timer = incoming.invite().header("Session-Expires");
                    demand(timer.is_some(), || {
                        "no Session-Expires in the INVITE".to_owned()
                    })
                },
            )],
        },
        group("methods", methods()),
        Group {
            name: "reliable",
            settings: StageSettings {
                carrier: "sip.reliable_provisional = true\nsip.update = true\n".to_owned(),
                ..StageSettings::default()
            },
            rows: reliable(),
        },
        group("errors", errors()),
    ]
}

fn timer() -> Vec<Row> {
    vec![
        row(
            "timer/from-teams",
            "Teams' offer of a session timer is answered with one",
            |stage| {
                let (caller, _callee) = stage.teams_to_carrier()?;
                let timer = caller.opening.message.header("Session-Expires");
                let timer = timer.unwrap_or_default();
                demand(
                    timer.starts_with("3600") && parameter(timer, "refresher").is_some(),
                    || format!("Session-Expires: {timer:?} in the answer"),
                )
            },
        ),
        row(
            "timer/too-small",
            "too small a one earns a 422 with Min-SE",
            |stage| {
                let number = stage.number("+1777");
                let mut call = stage.teams_dials(&number, |invite| {
                    invite
                        .headers
                        .retain(|(name, _)| name != "Session-Expires" && name != "Min-SE");
                    invite
                        .headers
                        .push(("Session-Expires".to_owned(), "30".to_owned()));
                })?;
                let answer = call
                    .wait_status(180..700, SOON)
                    .map_err(|_| LabError::new("the call is taken with a session timer of 30 s"))?;
                drop(call.cancel(None));
                demand(
                    answer.message.status() == Some(422)
                        && answer.message.header("Min-SE").is_some(),
                    || answer.message.start.clone(),
                )
            },
        ),
        row(
            "timer/refresh",
            "a refresh by Teams is answered; key, address and sound stay",
            |stage| {
                let (caller, callee) = stage.teams_to_carrier()?;
                let before = caller.sdp()?;
                for _ in 0..2 {
                    let answer = caller.reinvite(
                        &[
                            ("Session-Expires", "3600;refresher=uac"),
                            ("Supported", "timer"),
                        ],
                        |_| {},
                    )?;
                    demand(answer.header("Session-Expires").is_some(), || {
                        "no Session-Expires in the answer to the refresh".to_owned()
                    })?;
                }
                let after = caller.sdp()?;
                demand(
                    sbc_key(&before)? == sbc_key(&after)?
                        && before.audio_target() == after.audio_target(),
                    || "the refresh has changed the SBC's SDP".to_owned(),
                )?;
                heard(&caller, &callee)
            },
        ),
    ]
}

fn methods() -> Vec<Row> {
    vec![
        row(
            "methods/update",
            "UPDATE of the carrier does not reach Teams",
            |stage| {
                let mark = stage.twin.agent.mark();
                let (caller, callee) = stage.carrier_to_teams()?;
                let answer = caller.request("UPDATE", &[], None)?;
                demand(matches!(answer.status(), Some(200 | 405 | 501)), || {
                    answer.start.clone()
                })?;
                heard(&caller, &callee)?;
                only_allowed(stage, mark)
            },
        ),
        row(
            "methods/info",
            "INFO of the carrier does not reach Teams",
            |stage| {
                let mark = stage.twin.agent.mark();
                let (caller, callee) = stage.carrier_to_teams()?;
                let answer = caller.request(
                    "INFO",
                    &[],
                    Some(("application/dtmf-relay", "Signal=5\r\nDuration=160\r\n")),
                )?;
                demand(answer.status() == Some(405), || answer.start.clone())?;
                heard(&caller, &callee)?;
                only_allowed(stage, mark)
            },
        ),
        row(
            "methods/no-require",
            "nothing is required of Teams, also when the carrier supports 100rel",
            |stage| {
                let mark = stage.twin.agent.mark();
                let (outgoing, mut incoming) = stage.carrier_calls_teams(|invite| {
                    invite
                        .headers
                        .push(("Supported".to_owned(), "100rel, timer".to_owned()));
                })?;
                incoming.respond(180, "Ringing", None, &[])?;
                outgoing.wait_status(180..181, SOON)?;
                let (caller, callee) = connect(outgoing, incoming)?;
                heard(&caller, &callee)?;
                only_allowed(stage, mark)
            },
        ),
    ]
}

fn reliable() -> Vec<Row> {
    vec![row(
        "methods/prack",
        "a carrier's reliable 180 is acknowledged here, not by Teams",
        |stage| {
            let mark = stage.twin.agent.mark();
            let carrier = stage.carrier.agent.mark();
            let (outgoing, mut incoming) = stage.teams_calls_carrier(|_| {})?;
            let supported = incoming.invite().list("Supported").join(",");
            demand(supported.contains("100rel"), || {
                format!("the carrier is told Supported: {supported:?}")
            })?;
            incoming.respond(
                180,
                "Ringing",
                None,
                &[("Require", "100rel"), ("RSeq", "1")],
            )?;
            let prack = stage
                .carrier
                .agent
                .wait(carrier, SOON, "PRACK", |arrival| {
                    arrival.message.method() == "PRACK"
                })?;
            let answer = Message::response(&prack.message, 200, "OK", "");
            stage.carrier.agent.respond(&prack, &answer)?;
            outgoing.wait_status(180..181, SOON)?;
            let (caller, callee) = connect(outgoing, incoming)?;
            heard(&caller, &callee)?;
            // Responses of the SBC that demand PRACK of Teams would be no better.
            let demanded = stage.twin.agent.arrivals(mark).into_iter().find(|arrival| {
                arrival
                    .message
                    .list("Require")
                    .iter()
                    .any(|option| option == "100rel")
            });
            demand(demanded.is_none(), || {
                "100rel is required of Teams".to_owned()
            })?;
            only_allowed(stage, mark)
        },
    )]
}

fn errors() -> Vec<Row> {
    vec![
        row(
            "errors/403",
            "no request earns a 403 with 510532",
            |stage| {
                let (caller, callee) = stage.carrier_to_teams()?;
                caller.reinvite(&[], |description| description.direction = "inactive")?;
                drop((caller, callee));
                let refused = stage
                    .twin
                    .agent
                    .arrivals(0)
                    .into_iter()
                    .find_map(|arrival| {
                        let rule = arrival.broken.iter().find_map(|rule| rule.refusal());
                        rule.filter(|(status, _, _)| *status == 403)
                            .map(|_| arrival.message.start.clone())
                    });
                demand(refused.is_none(), || refused.unwrap_or_default())
            },
        ),
        row(
            "errors/488",
            "Teams' 488 reaches the caller, and is not tried elsewhere",
            |stage| {
                let mark = stage.twin.agent.mark();
                let (mut outgoing, mut incoming) = stage.carrier_calls_teams(|_| {})?;
                incoming.respond(488, "Not Acceptable Here", None, &[])?;
                let refusal = outgoing.refused(SOON)?;
                let tries = invites(stage, mark).len();
                demand(refusal.status() == Some(488) && tries == 1, || {
                    format!("{} after {tries} INVITEs", refusal.start)
                })
            },
        ),
        row(
            "errors/ack",
            "ACK comes within 4 s of Teams' 200, also when the caller is slow",
            |stage| {
                let (outgoing, incoming) = stage.carrier_calls_teams(|_| {})?;
                thread::scope(|scope| {
                    let answering = scope.spawn(move || incoming.answer());
                    outgoing.wait_status(200..300, SOON)?;
                    let callee = answering
                        .join()
                        .map_err(|_| LabError::new("answering panicked"))?;
                    let caller = outgoing.answered(SOON)?;
                    heard(&caller, &callee?)
                })
            },
        ),
        row(
            "errors/media",
            "media flows before 10 s have passed without any",
            |stage| {
                let (caller, callee) = stage.carrier_to_teams()?;
                heard(&caller, &callee)
            },
        ),
        row(
            "errors/481",
            "a request in a call that has ended earns a 481",
            |stage| {
                let (caller, callee) = stage.carrier_to_teams()?;
                caller.bye()?;
                callee.wait_bye(SOON)?;
                let late = callee.request(
                    "INVITE",
                    &[],
                    Some(("application/sdp", &callee.description_text())),
                );
                let late = late?;
                demand(late.status() == Some(481), || late.start.clone())
            },
        ),
        row(
            "errors/multiple-answers",
            "a 200 that comes again is acknowledged again",
            |stage| {
                let (outgoing, incoming) = stage.carrier_calls_teams(|_| {})?;
                let copy = incoming.second_answer("")?;
                let (caller, callee) = connect_with(outgoing, move || incoming.answer())?;
                let mark = stage.twin.agent.mark();
                let [local, _] = callee.tags();
                let mut copy = copy;
                for (name, value) in &mut copy.headers {
                    if name == "To" {
                        *value =
                            format!("{};tag={local}", value.split(";tag=").next().unwrap_or(""));
                    }
                }
                stage.twin.agent.respond(&callee.opening.clone(), &copy)?;
                stage.twin.agent.wait(mark, SOON, "ACK again", |arrival| {
                    arrival.message.method() == "ACK" && arrival.message.to_tag() == Some(&local)
                })?;
                heard(&caller, &callee)
            },
        ),
    ]
}
