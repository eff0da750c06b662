//! Media bypass: ICE-lite and early media.

use super::{
    Group, Row, demand, group,
    invite::bypass_offer,
    observe::good_answer,
    row,
    stage::{Stage, connect},
};
use crate::{
    lab::{LabError, Result},
    twin::sdp::Sdp,
};

pub(super) fn groups() -> Vec<Group> {
    vec![group("bypass", rows())]
}

/// The SBC's answer to an offer with ICE.
fn answer(stage: &Stage) -> Result<Sdp> {
    let (outgoing, incoming) = stage.teams_calls_carrier(|invite| {
        invite.adjust = bypass_offer;
        invite
            .headers
            .retain(|(name, _)| name != "Session-Expires" && name != "Min-SE");
    })?;
    let (caller, _callee) = connect(outgoing, incoming)?;
    good_answer(&caller.opening.message)
}

/// What a row needs that is about more than the answer.
fn with_ice(stage: &Stage, what: &str) -> Result<()> {
    lite(&answer(stage)?)?;
    Err(LabError::new(format!(
        "ICE is answered, but {what} is not checked yet"
    )))
}

fn lite(answer: &Sdp) -> Result<()> {
    let session = answer.attributes.iter().map(|(name, _)| name);
    let audio = answer.audio().ok_or_else(|| LabError::new("no audio"))?;
    let all = session.chain(audio.attributes.iter().map(|(name, _)| name));
    let names: Vec<&String> = all.collect();
    for wanted in ["ice-lite", "ice-ufrag", "ice-pwd", "candidate"] {
        demand(names.iter().any(|name| *name == wanted), || {
            format!("the answer to an offer with ICE holds no a={wanted}")
        })?;
    }
    Ok(())
}

fn rows() -> Vec<Row> {
    vec![
        row(
            "bypass/ice-lite",
            "an offer with ICE is answered as ICE-lite",
            |stage| lite(&answer(stage)?),
        ),
        row("bypass/one-candidate", "with one IPv4 candidate", |stage| {
            let answer = answer(stage)?;
            lite(&answer)?;
            let audio = answer.audio().ok_or_else(|| LabError::new("no audio"))?;
            let candidates = audio
                .attributes
                .iter()
                .filter(|(name, value)| name == "candidate" && value.contains(" 1 "))
                .count();
            demand(candidates == 1, || format!("{candidates} candidates"))
        }),
        row(
            "bypass/checks",
            "checks are answered and none is sent",
            |stage| with_ice(stage, "a check"),
        ),
        row(
            "bypass/nomination",
            "regular nomination, before or after the 200",
            |stage| with_ice(stage, "nomination"),
        ),
        row("bypass/forks", "many forks", |stage| {
            with_ice(stage, "a fork")
        }),
        row(
            "bypass/credentials",
            "ufrag and password are those of the 183 in the 200",
            |stage| with_ice(stage, "a 183"),
        ),
        row("bypass/restart", "an ICE restart by re-INVITE", |stage| {
            with_ice(stage, "a restart")
        }),
        row("bypass/remote-candidates", "a=remote-candidates", |stage| {
            with_ice(stage, "a=remote-candidates")
        }),
        row(
            "bypass/early-media",
            "early media latches as ICE goes on",
            |stage| with_ice(stage, "early media"),
        ),
        row(
            "bypass/unknown-attributes",
            "unknown STUN attributes are ignored",
            |stage| with_ice(stage, "an unknown attribute"),
        ),
        row(
            "bypass/video",
            "media other than audio is refused with port 0",
            |stage| {
                let (outgoing, incoming) = stage.teams_calls_carrier(|invite| {
                    invite.adjust = |description| {
                        let port = description.address.port() + 100;
                        description.sections = format!(
                            "m=video {port} RTP/SAVP 122\r\na=rtpmap:122 X-H264UC/90000\r\n"
                        );
                    };
                })?;
                let (caller, _callee) = connect(outgoing, incoming)?;
                let answer = good_answer(&caller.opening.message)?;
                let video = answer.media.iter().find(|media| media.kind == "video");
                demand(video.is_some_and(|video| video.port == 0), || {
                    format!("video has port {:?}", video.map(|video| video.port))
                })
            },
        ),
    ]
}
