//! Hold in its forms, and what crosses it.

use super::{
    Group, Row, demand, group,
    observe::{good_answer, heard, silent},
    row,
    stage::Stage,
};
use crate::{
    lab::{LabError, Party, Result, Side},
    twin::{
        agent::SOON,
        call::Call,
        message::Message,
        rules::Rule,
        sdp::{Description, Sdp},
    },
};

pub(super) fn groups() -> Vec<Group> {
    vec![group("hold", hold())]
}

/// The carrier holds in a form of its own: Teams sees `inactive`, nothing else, and later talk.
fn holds(
    stage: &Stage,
    hold: impl FnOnce(&mut Description),
    resume: impl FnOnce(&mut Description),
) -> Result<()> {
    let (caller, callee) = stage.carrier_to_teams()?;
    heard(&caller, &callee)?;
    let mark = stage.twin.agent.mark();
    caller.reinvite(&[], hold)?;
    let held = callee.wait_request(mark, "INVITE", SOON, |_| true)?;
    demand(held.broken.is_empty(), || {
        format!("Teams sees: {}", held.broken[0])
    })?;
    let offer = Sdp::of(&held.message.body).ok_or_else(|| LabError::new("no offer"))?;
    demand(offer.direction() == "inactive", || {
        format!("Teams sees a={}", offer.direction())
    })?;
    silent(&caller, &callee)?;
    silent(&callee, &caller)?;
    let mark = stage.twin.agent.mark();
    caller.reinvite(&[], resume)?;
    let resumed = callee.wait_request(mark, "INVITE", SOON, |_| true)?;
    demand(resumed.broken.is_empty(), || {
        format!("on resuming Teams sees: {}", resumed.broken[0])
    })?;
    heard(&caller, &callee)
}

fn hold() -> Vec<Row> {
    vec![
        row(
            "hold/sendonly",
            "sendonly of the carrier becomes a=inactive",
            |stage| {
                holds(
                    stage,
                    |description| description.direction = "sendonly",
                    |description| description.direction = "sendrecv",
                )
            },
        ),
        row("hold/recvonly", "recvonly too", |stage| {
            holds(
                stage,
                |description| description.direction = "recvonly",
                |description| description.direction = "sendrecv",
            )
        }),
        row("hold/inactive", "inactive stays inactive", |stage| {
            holds(
                stage,
                |description| description.direction = "inactive",
                |description| description.direction = "sendrecv",
            )
        }),
        row(
            "hold/null-address",
            "c=0.0.0.0 never reaches Teams, but a=inactive does",
            |stage| {
                let own = Party::Carrier.ipv4(Side::Peer);
                holds(
                    stage,
                    |description| description.address.set_ip("0.0.0.0".parse().unwrap_or(own)),
                    |description| description.address.set_ip(own),
                )
            },
        ),
        row(
            "hold/from-teams",
            "Teams' hold reaches the carrier, and its resuming",
            |stage| {
                let (caller, callee) = stage.teams_to_carrier()?;
                heard(&caller, &callee)?;
                let mark = stage.carrier.agent.mark();
                let answer =
                    caller.reinvite(&[], |description| description.direction = "inactive")?;
                let answer = good_answer(&answer)?;
                demand(answer.direction() == "inactive", || {
                    format!("the answer is a={}", answer.direction())
                })?;
                let held = callee.wait_request(mark, "INVITE", SOON, |_| true)?;
                let offer = Sdp::of(&held.message.body).ok_or_else(|| LabError::new("no offer"))?;
                demand(offer.direction() == "inactive", || {
                    format!("the carrier sees a={}", offer.direction())
                })?;
                silent(&caller, &callee)?;
                silent(&callee, &caller)?;
                caller.reinvite(&[], |description| description.direction = "sendrecv")?;
                heard(&caller, &callee)
            },
        ),
        row(
            "hold/offerless",
            "a re-INVITE without an offer reaches Teams with one",
            |stage| {
                let (caller, callee) = stage.carrier_to_teams()?;
                let mark = stage.twin.agent.mark();
                caller.reinvite_offerless()?;
                let reached = callee.wait_request(mark, "INVITE", SOON, |_| true)?;
                demand(Sdp::of(&reached.message.body).is_some(), || {
                    "it reaches Teams without an offer".to_owned()
                })?;
                let broken: Vec<Rule> = callee
                    .requests(mark, "INVITE")
                    .into_iter()
                    .flat_map(|arrival| arrival.broken)
                    .collect();
                demand(broken.is_empty(), || format!("Teams sees: {}", broken[0]))?;
                heard(&caller, &callee)
            },
        ),
        row(
            "hold/glare",
            "two re-INVITEs at once: 491, and the call goes on",
            |stage| {
                let (caller, callee) = stage.carrier_to_teams()?;
                callee.answer_by_script(true);
                let mark = stage.twin.agent.mark();
                std::thread::scope(|scope| {
                    let holding = scope.spawn(|| caller.reinvite(&[], |_| {}));
                    let offered = callee.wait_request(mark, "INVITE", SOON, |_| true);
                    let crossed = offered.and_then(|offered| {
                        let crossed = callee.request(
                            "INVITE",
                            &[],
                            Some(("application/sdp", &own_text(&callee))),
                        );
                        let pending =
                            Message::response(&offered.message, 491, "Request Pending", "");
                        stage.twin.agent.respond(&offered, &pending)?;
                        crossed
                    });
                    callee.answer_by_script(false);
                    let _ = holding.join();
                    let crossed = crossed?;
                    demand(crossed.status() == Some(491), || {
                        format!("the SBC answers {}", crossed.start)
                    })
                })?;
                heard(&caller, &callee)
            },
        ),
    ]
}

fn own_text(call: &Call) -> String {
    call.description_text()
}
