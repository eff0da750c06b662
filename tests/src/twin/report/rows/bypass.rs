//! Media bypass: ICE-lite on the SBC's side, and early media.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    Group, Row, demand, group,
    invite::{FRAGMENT, PASSWORD, bypass_offer},
    observe::{good_answer, heard},
    row,
    stage::{Stage, StageSettings, connect, connect_with},
};
use crate::{
    lab::{LabError, Party, Result, wait_until},
    twin::{
        agent::{SOON, token},
        call::Call,
        incoming::Incoming,
        media::Media,
        outgoing::Outgoing,
        sdp::{Description, Sdp},
        stun::{self, Check, Outcome},
    },
};

pub(super) fn groups() -> Vec<Group> {
    vec![Group {
        settings: StageSettings {
            teams: "ice = \"lite\"".to_owned(),
            ..StageSettings::default()
        },
        ..group("bypass", rows())
    }]
}

/// What the SBC says of itself for ICE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lite {
    fragment: String,
    password: String,
    /// Its candidates for RTP.
    candidates: Vec<SocketAddr>,
}

impl Lite {
    /// Reads it from a description.
    ///
    /// # Errors
    /// When there is no ICE-lite in it.
    pub fn of(sdp: &Sdp) -> Result<Self> {
        let audio = sdp.audio().ok_or_else(|| LabError::new("no audio"))?;
        let value = |wanted: &str| {
            let all = audio.attributes.iter().chain(&sdp.attributes);
            let mut all = all.filter(|(name, _)| name == wanted);
            let missing = || LabError::new(format!("the SBC's SDP holds no a={wanted}"));
            all.next()
                .map(|(_, value)| value.clone())
                .ok_or_else(missing)
        };
        value("ice-lite")?;
        value("candidate")?;
        let candidates = audio
            .attributes
            .iter()
            .filter(|(name, _)| name == "candidate")
            .filter_map(|(_, value)| {
                let parts: Vec<&str> = value.split_whitespace().collect();
                let address = format!("{}:{}", parts.get(4)?, parts.get(5)?);
                (*parts.get(1)? == "1").then(|| address.parse().ok())?
            })
            .collect();
        Ok(Self {
            fragment: value("ice-ufrag")?,
            password: value("ice-pwd")?,
            candidates,
        })
    }

    /// Sends a check from a party's port, by its ufrag, and waits for a good answer.
    ///
    /// # Errors
    /// When there is none.
    pub fn check(&self, media: &Media, own: &str, nominates: bool, unknown: bool) -> Result<()> {
        let check = Check {
            fragments: [&self.fragment, own],
            password: &self.password,
            nominates,
            preferred: false,
            unknown,
        };
        let answered = self.respond(media, &check, |got, transaction| {
            let told = stun::answer(got, transaction, &self.password);
            (told == Some(media.address)).then_some(())
        })?;
        answered.ok_or_else(|| LabError::new("a check has no good answer within 4 s"))
    }

    /// Sends a check with a wrong password that, were it right, would take the audio to where it
    /// comes from; it must earn a 401 that the SBC counts.
    fn refuses(&self, stage: &Stage, media: &Media, own: &str) -> Result<()> {
        let check = Check {
            fragments: [&self.fragment, own],
            password: &format!("{}x", self.password),
            nominates: true,
            preferred: true,
            unknown: false,
        };
        let count = || {
            let labels = [("path", "userspace"), ("reason", "stun-refused")];
            stage.metric("trunkline_packets_total", &labels)
        };
        let before = count()?;
        let outcome = self.respond(media, &check, stun::outcome)?;
        demand(outcome == Some(Outcome::Error(401)), || {
            format!("what comes of a wrong password: {outcome:?}")
        })?;
        let after = count()?;
        demand(after > before, || "no refused check is counted".to_owned())
    }

    /// Sends a check from a party's port until something has come that `read` takes for its
    /// response; that, if it comes.
    fn respond<T>(
        &self,
        media: &Media,
        check: &Check<'_>,
        read: impl Fn(&[u8], &[u8; 12]) -> Option<T>,
    ) -> Result<Option<T>> {
        let (octets, transaction) = check.request();
        let to = *self
            .candidates
            .first()
            .ok_or_else(|| LabError::new("no candidate for RTP"))?;
        let mut found = None;
        wait_until(SOON, || {
            media.send_raw(&octets, to);
            wait_until(Duration::from_millis(100), || {
                found = media
                    .others()
                    .iter()
                    .find_map(|got| read(got, &transaction));
                found.is_some()
            })
        });
        Ok(found)
    }
}

fn with_ice(stage: &Stage) -> Result<(Outgoing, Incoming)> {
    stage.teams_calls_carrier(|invite| {
        invite.adjust = bypass_offer;
        invite
            .headers
            .retain(|(name, _)| name != "Session-Expires" && name != "Min-SE");
    })
}

/// A call with ICE: Teams' side, the carrier's side, the SBC's ICE.
///
/// # Errors
/// When it does not come up, or the SBC has no ICE.
pub fn call(stage: &Stage) -> Result<(Call, Call, Lite)> {
    let (outgoing, incoming) = with_ice(stage)?;
    let (teams, carrier) = connect(outgoing, incoming)?;
    let lite = Lite::of(&good_answer(&teams.opening.message)?)?;
    Ok((teams, carrier, lite))
}

/// Teams' ufrag after a restart.
pub const RESTARTED: &str = "New1";

/// Teams restarts ICE; the SBC's ICE then.
///
/// # Errors
/// When its re-INVITE is refused, or answered without ICE.
pub fn restart(teams: &Call) -> Result<Lite> {
    teams.reinvite(&[], |description: &mut Description| {
        for line in &mut description.extra {
            if line.starts_with("ice-ufrag:") {
                *line = format!("ice-ufrag:{RESTARTED}");
            } else if line.starts_with("ice-pwd:") {
                *line = format!("ice-pwd:{}", PASSWORD.replace('5', "6"));
            }
        }
    })?;
    Lite::of(&teams.sdp()?)
}

/// Checks with a wrong password move no media: neither before a good one, nor from elsewhere after
/// it.
fn wrong_password(stage: &Stage) -> Result<()> {
    let (teams, carrier, lite) = call(stage)?;
    let target = teams.sdp()?.audio_target();
    lite.refuses(stage, &teams.media, FRAGMENT)?;
    let begun = Instant::now();
    let mut dropped = 0;
    let first = dropped_of(stage, target)?;
    let enough = wait_until(SOON, || {
        dropped = dropped_of(stage, target).unwrap_or(first) - first;
        dropped >= 25
    });
    demand(enough, || {
        format!("after a wrong password {dropped} packets of Teams' are dropped")
    })?;
    for (listener, speaker) in [(&carrier, &teams), (&teams, &carrier)] {
        let heard = listener.media.heard(&speaker.media, begun);
        demand(heard == 0, || {
            let who = listener.agent.name();
            format!("{who} hears {heard} packets by a wrong password")
        })?;
    }

    lite.check(&teams.media, FRAGMENT, true, false)?;
    heard(&teams, &carrier)?;
    let door = stage.lab.peer(Party::Teams).door();
    let elsewhere = Media::open(&door, teams.media.address.ip(), false)?;
    let begun = Instant::now();
    lite.refuses(stage, &elsewhere, FRAGMENT)?;
    // The next good check chooses anew among the pairs that are known.
    lite.check(&teams.media, FRAGMENT, true, false)?;
    heard(&teams, &carrier)?;
    let moved = elsewhere.received(begun).len();
    demand(moved == 0, || {
        format!("{moved} packets come to where a wrong password did")
    })
}

/// Packets that the SBC has dropped of the call that it has this media address for.
fn dropped_of(stage: &Stage, target: Option<SocketAddr>) -> Result<u64> {
    let mut calls = stage.calls()?;
    calls.retain(|call| target.is_some_and(|target| call.media.contains(&target)));
    let streams = calls.iter().flat_map(|call| &call.streams);
    Ok(streams.map(|stream| stream.dropped).sum())
}

fn rows() -> Vec<Row> {
    vec![
        row(
            "bypass/ice-lite",
            "an offer with ICE is answered as ICE-lite",
            |stage| call(stage).map(|_| ()),
        ),
        row("bypass/one-candidate", "with one IPv4 candidate", |stage| {
            let (_teams, _carrier, lite) = call(stage)?;
            demand(
                lite.candidates.len() == 1 && lite.candidates[0].is_ipv4(),
                || format!("{:?}", lite.candidates),
            )
        }),
        row(
            "bypass/checks",
            "checks are answered and none is sent",
            |stage| {
                let (teams, carrier, lite) = call(stage)?;
                lite.check(&teams.media, FRAGMENT, true, false)?;
                // For as long as it takes to hear both, checks could come.
                heard(&teams, &carrier)?;
                demand(
                    !teams.media.others().iter().any(|got| stun::is_request(got)),
                    || "the SBC sends checks".to_owned(),
                )
            },
        ),
        row(
            "bypass/wrong-password",
            "a check with a wrong password earns a 401",
            wrong_password,
        ),
        row(
            "bypass/nomination",
            "regular nomination after the 200; then both hear each other",
            |stage| {
                let (teams, carrier, lite) = call(stage)?;
                lite.check(&teams.media, FRAGMENT, false, false)?;
                lite.check(&teams.media, FRAGMENT, true, false)?;
                heard(&teams, &carrier)
            },
        ),
        row("bypass/early-nomination", "and before it", |stage| {
            let (outgoing, mut incoming) = with_ice(stage)?;
            incoming.progress(None, &[])?;
            let early = outgoing.wait_status(183..184, SOON)?;
            let sdp = Sdp::of(&early.message.body).ok_or_else(|| LabError::new("no SDP"))?;
            let lite = Lite::of(&sdp)?;
            lite.check(&outgoing.media, FRAGMENT, true, false)?;
            let (teams, carrier) = connect(outgoing, incoming)?;
            heard(&teams, &carrier)
        }),
        row(
            "bypass/credentials",
            "ufrag and password of the 183 are those of the 200",
            |stage| {
                let (outgoing, mut incoming) = with_ice(stage)?;
                incoming.progress(None, &[])?;
                let early = outgoing.wait_status(183..184, SOON)?;
                let sdp = Sdp::of(&early.message.body).ok_or_else(|| LabError::new("no SDP"))?;
                let before = Lite::of(&sdp)?;
                let (teams, _carrier) = connect(outgoing, incoming)?;
                let after = Lite::of(&teams.sdp()?)?;
                demand(before == after, || "they have changed".to_owned())
            },
        ),
        row(
            "bypass/early-media",
            "early media is heard as soon as a check has passed",
            |stage| {
                let (outgoing, mut incoming) = with_ice(stage)?;
                incoming.progress(None, &[])?;
                let early = outgoing.wait_status(183..184, SOON)?;
                let sdp = Sdp::of(&early.message.body).ok_or_else(|| LabError::new("no SDP"))?;
                Lite::of(&sdp)?.check(&outgoing.media, FRAGMENT, false, false)?;
                outgoing.take_early(&early.message);
                outgoing.media.hears(&incoming.media, "Teams")
            },
        ),
        row(
            "bypass/forks",
            "many forks with ICE of their own; the one that answers is heard",
            |stage| {
                let (outgoing, mut incoming) = stage.carrier_calls_teams(|_| {})?;
                let lite = Lite::of(&incoming.offer()?)?;
                bypass_offer(&mut incoming.description);
                let tags = [token(), token(), token()];
                for tag in &tags {
                    incoming.progress(Some(tag), &[])?;
                }
                outgoing.wait_status(183..184, SOON)?;
                let media = Arc::clone(&incoming.media);
                let winner = tags[1].clone();
                let (carrier, teams) = connect_with(outgoing, move || {
                    incoming.answer_with(Some(&winner), &[], |_| {})
                })?;
                lite.check(&media, FRAGMENT, true, false)?;
                heard(&carrier, &teams)
            },
        ),
        row("bypass/restart", "an ICE restart by re-INVITE", |stage| {
            let (teams, carrier, before) = call(stage)?;
            before.check(&teams.media, FRAGMENT, true, false)?;
            let begun = Instant::now();
            let after = restart(&teams)?;
            demand(
                before.fragment != after.fragment && before.password != after.password,
                || {
                    format!(
                        "ufrag and password are the old ones, {:?} later",
                        begun.elapsed()
                    )
                },
            )?;
            after.check(&teams.media, RESTARTED, true, false)?;
            heard(&teams, &carrier)
        }),
        row(
            "bypass/remote-candidates",
            "a re-INVITE with a=remote-candidates goes on",
            |stage| {
                let (teams, carrier, lite) = call(stage)?;
                lite.check(&teams.media, FRAGMENT, true, false)?;
                let chosen = lite.candidates[0];
                teams.reinvite(&[], |description| {
                    description
                        .extra
                        .retain(|line| !line.starts_with("remote-candidates"));
                    let (ip, port) = (chosen.ip(), chosen.port());
                    description
                        .extra
                        .push(format!("remote-candidates:1 {ip} {port}"));
                })?;
                heard(&teams, &carrier)
            },
        ),
        row(
            "bypass/unknown-attributes",
            "unknown STUN attributes are ignored",
            |stage| {
                let (teams, _carrier, lite) = call(stage)?;
                lite.check(&teams.media, FRAGMENT, false, true)
            },
        ),
        row(
            "timer/bypass",
            "absent with media bypass: a call without one gets none",
            |stage| {
                let (teams, _carrier, _lite) = call(stage)?;
                let answer = &teams.opening.message;
                let timer = answer.header("Session-Expires");
                demand(timer.is_none(), || format!("Session-Expires: {timer:?}"))
            },
        ),
        row(
            "errors/531027",
            "no offer with media bypass earns a 488 with 531027: no ICE",
            |stage| {
                let (outgoing, mut incoming) = stage.carrier_calls_teams(|_| {})?;
                Lite::of(&incoming.offer()?)?;
                bypass_offer(&mut incoming.description);
                let (carrier, teams) = connect(outgoing, incoming)?;
                for direction in ["sendonly", "sendrecv"] {
                    carrier.reinvite(&[], |description| description.direction = direction)?;
                    Lite::of(&teams.sdp()?).map_err(|error| {
                        LabError::new(format!("the re-INVITE for {direction}: {error}"))
                    })?;
                }
                Ok(())
            },
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
