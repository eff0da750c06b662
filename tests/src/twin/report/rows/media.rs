//! SRTP, codecs, RTCP, and media that stays where it is.

use std::time::Instant;

use super::{
    Group, Row, demand, group,
    observe::{good_answer, heard, sbc_key},
    row,
    stage::{Stage, connect, connect_with},
    untestable,
};
use crate::{
    lab::{LabError, Party, Result, Side, wait_until},
    twin::{agent::SOON, call::Call, media::Media, rules::Rule, sdp::Sdp, secret::Key},
};

pub(super) fn groups() -> Vec<Group> {
    vec![
        group("srtp", srtp()),
        group(
            "codecs",
            [codecs(), rtcp(), stays()].into_iter().flatten().collect(),
        ),
    ]
}

fn srtp() -> Vec<Row> {
    vec![
        row(
            "srtp/suite-80",
            "AES_CM_128_HMAC_SHA1_80 is offered, and nothing in the clear",
            |stage| {
                let (_outgoing, incoming) = stage.carrier_calls_teams(|_| {})?;
                let broken = &incoming.arrival.broken;
                demand(
                    !broken.contains(&Rule::NoSrtp) && !broken.contains(&Rule::NoSuite80),
                    || format!("{broken:?}"),
                )
            },
        ),
        row("srtp/lifetime", "the key is inline:key|2^31", |stage| {
            let (_outgoing, incoming) = stage.carrier_calls_teams(|_| {})?;
            let key = sbc_key(&incoming.offer()?)?;
            demand(key.split('|').nth(1) == Some("2^31"), || {
                "the key is offered without |2^31".to_owned()
            })
        }),
        row(
            "srtp/two-tags",
            "an offer of tag 0 _32 and tag 1 _80 is answered and heard",
            |stage| {
                let (caller, callee) = stage.teams_to_carrier()?;
                let sdp = good_answer(&caller.opening.message)?;
                demand(sdp.keys().len() == 1, || {
                    format!("the answer holds {} keys", sdp.keys().len())
                })?;
                heard(&caller, &callee)
            },
        ),
        row(
            "srtp/two-keys",
            "an answer of Teams may hold two keys, one with an MKI",
            |stage| two_keys(stage, false),
        ),
        row(
            "srtp/mki",
            "packets under the key with the MKI |1:1 are heard too",
            |stage| two_keys(stage, true),
        ),
        row(
            "srtp/new-key",
            "a re-INVITE with a new key: Teams' ROC starts at 0",
            |stage| {
                let (caller, callee) = stage.teams_to_carrier()?;
                wrap(&caller, &callee)?;
                caller.renew_keys();
                caller.reinvite(&[], |_| {})?;
                demand(caller.media.cycles() == 0, || {
                    "the script's ROC is not 0".to_owned()
                })?;
                heard(&caller, &callee)
            },
        ),
        row(
            "srtp/same-key",
            "with the same key it goes on, also at ROC 1",
            |stage| {
                let (caller, callee) = stage.teams_to_carrier()?;
                wrap(&caller, &callee)?;
                caller.reinvite(&[], |_| {})?;
                demand(caller.media.cycles() == 1, || {
                    "the script's ROC is not 1".to_owned()
                })?;
                heard(&caller, &callee)
            },
        ),
        row(
            "srtp/own-key-kept",
            "our key stays over a refresh",
            |stage| {
                let (caller, callee) = stage.teams_to_carrier()?;
                let before = sbc_key(&caller.sdp()?)?;
                caller.reinvite(&[], |_| {})?;
                let refreshed = sbc_key(&caller.sdp()?)?;
                demand(before == refreshed, || {
                    "Teams' refresh changes it".to_owned()
                })?;
                callee.reinvite(&[], |_| {})?;
                let from_carrier = sbc_key(&caller.sdp()?)?;
                demand(before == from_carrier, || {
                    "the carrier's changes it".to_owned()
                })?;
                heard(&caller, &callee)
            },
        ),
        row(
            "srtp/long-life",
            "two refreshes and new keys, the sequence number wrapped in between: heard both ways",
            |stage| {
                let (caller, callee) = stage.teams_to_carrier()?;
                caller.reinvite(&[], |_| {})?;
                wrap(&caller, &callee)?;
                callee.media.set_sequence(65_520);
                heard(&caller, &callee)?;
                caller.reinvite(&[], |_| {})?;
                heard(&caller, &callee)?;
                caller.renew_keys();
                caller.reinvite(&[], |_| {})?;
                heard(&caller, &callee)?;
                demand(caller.media.refused() < 5, || {
                    format!("{} packets were not authentic", caller.media.refused())
                })
            },
        ),
    ]
}

/// Lets the sequence number that Teams sends wrap.
fn wrap(caller: &Call, callee: &Call) -> Result<()> {
    heard(caller, callee)?;
    // Forward by less than half the space at a time: more would look like packets of the past.
    for sequence in [40_000, 65_520] {
        caller.media.set_sequence(sequence);
        callee.media.hears(&caller.media, "the carrier")?;
    }
    let wrapped = wait_until(SOON, || caller.media.cycles() == 1);
    demand(wrapped, || {
        "the script's sequence number has not wrapped".to_owned()
    })?;
    heard(caller, callee)
}

fn two_keys(stage: &Stage, sends_with_mki: bool) -> Result<()> {
    let (outgoing, incoming) = stage.carrier_calls_teams(|_| {})?;
    let second = Key::fresh(false).with_mki(1);
    let line = |key: &Key, tag: u32| {
        let crypto = key.crypto(tag);
        format!(
            "a=crypto:{} {} inline:{}\r\n",
            crypto.tag, crypto.suite, crypto.key
        )
    };
    let tag = incoming.offer()?.keys().first().map_or(1, |key| key.tag);
    let mki_line = line(&second, tag);
    let media = std::sync::Arc::clone(&incoming.media);
    let (caller, callee) = connect_with(outgoing, move || {
        incoming.answer_with(None, &[], |text| {
            let at = text.find("a=crypto").unwrap_or(text.len());
            let end = text[at..]
                .find("\r\n")
                .map_or(text.len(), |end| at + end + 2);
            if sends_with_mki {
                text.replace_range(at..end, &mki_line);
            } else {
                text.insert_str(end, &mki_line);
            }
        })
    })?;
    if sends_with_mki {
        media.protect_with(&second);
    }
    heard(&caller, &callee)
}

fn codecs() -> Vec<Row> {
    vec![
        row(
            "codecs/offer",
            "what Teams offers and a carrier knows passes by name and number",
            |stage| {
                let (_outgoing, incoming) = stage.teams_calls_carrier(|_| {})?;
                let offer = incoming.offer()?;
                let audio = offer.audio().ok_or_else(|| LabError::new("no audio"))?;
                for (format, codec) in [
                    (9, "G722/8000"),
                    (0, "PCMU/8000"),
                    (8, "PCMA/8000"),
                    (18, "G729/8000"),
                    (101, "telephone-event/8000"),
                ] {
                    let found = audio.codec(format).unwrap_or_default();
                    demand(
                        audio.formats.contains(&format) && found.starts_with(codec),
                        || format!("{codec} is not offered as {format}"),
                    )?;
                }
                Ok(())
            },
        ),
        row(
            "codecs/silk",
            "SILK is taken in an offer, and carried when both sides have it",
            |stage| {
                let (outgoing, mut incoming) = stage.teams_calls_carrier(|_| {})?;
                incoming.description.formats =
                    vec![(104, "SILK/16000"), (101, "telephone-event/8000")];
                let (caller, callee) = connect(outgoing, incoming)?;
                caller.media.send_to(caller.sdp()?.audio_target(), 104);
                callee.media.send_to(callee.sdp()?.audio_target(), 104);
                heard(&caller, &callee)
            },
        ),
        row(
            "codecs/duplicates",
            "one payload type never has two uses towards Teams (E)",
            |stage| {
                let number = stage.number("+1666");
                let mark = stage.twin.agent.mark();
                let mut outgoing =
                    stage.plain_dials(&stage.carrier, Party::Carrier, &number, |invite| {
                        invite.adjust = |description| {
                            description.formats = vec![
                                (0, "PCMU/8000"),
                                (101, "telephone-event/8000"),
                                (101, "CN/16000"),
                            ];
                        };
                    })?;
                let Ok(incoming) = stage.twin.agent.incoming(mark, &number, SOON) else {
                    // Refusing such an offer keeps it from Teams as well.
                    let refusal = outgoing.refused(SOON)?;
                    return demand(refusal.status() == Some(488), || refusal.start.clone());
                };
                demand(
                    !incoming
                        .arrival
                        .broken
                        .contains(&Rule::DuplicatePayloadType),
                    || "Teams sees one payload type twice".to_owned(),
                )
            },
        ),
        row("codecs/dtmf", "telephone-event passes both ways", |stage| {
            let (caller, callee) = stage.carrier_to_teams()?;
            heard(&caller, &callee)?;
            let number = event_format(&callee.sdp()?)?;
            for (from, to) in [
                (&caller.media, &callee.media),
                (&callee.media, &caller.media),
            ] {
                passes_digit(from, to, number)?;
            }
            Ok(())
        }),
        untestable(
            "codecs/dtmf-in-band",
            "DTMF in-band is not supported",
            "what Teams does not do; the SBC passes sound as it is",
        ),
    ]
}

fn event_format(sdp: &Sdp) -> Result<u8> {
    let audio = sdp.audio().ok_or_else(|| LabError::new("no audio"))?;
    let mut formats = audio.formats.iter().copied();
    formats
        .find(|&format| {
            audio
                .codec(format)
                .is_some_and(|codec| codec.starts_with("telephone-event"))
        })
        .ok_or_else(|| LabError::new("telephone-event was not agreed on"))
}

/// Digit 5 by RFC 4733.
fn passes_digit(from: &Media, to: &Media, format: u8) -> Result<()> {
    let since = Instant::now();
    for (end, duration) in [
        (0u8, 160u16),
        (0, 320),
        (0x80, 480),
        (0x80, 480),
        (0x80, 480),
    ] {
        let [high, low] = duration.to_be_bytes();
        from.send_extra(format, &[5, end | 10, high, low]);
    }
    let came = wait_until(SOON, || {
        let received = to.received(since);
        let digits = received.iter().filter(|packet| {
            packet.format == format && packet.payload.len() == 4 && packet.payload[0] == 5
        });
        digits.count() >= 3
    });
    demand(came, || {
        format!("the digit did not come as payload type {format}")
    })
}

fn rtcp() -> Vec<Row> {
    vec![
        row(
            "rtcp/attribute",
            "the offer to Teams holds a=rtcp or a=rtcp-mux",
            |stage| {
                let (_outgoing, incoming) = stage.carrier_calls_teams(|_| {})?;
                let offer = incoming.offer()?;
                let audio = offer.audio().ok_or_else(|| LabError::new("no audio"))?;
                demand(
                    audio.attribute("rtcp").is_some() || audio.attribute("rtcp-mux").is_some(),
                    || "neither is there".to_owned(),
                )
            },
        ),
        row(
            "rtcp/mux",
            "a=rtcp-mux of Teams is answered, and its RTCP taken on the port of RTP",
            |stage| {
                let (outgoing, incoming) = stage.teams_calls_carrier(|_| {})?;
                let mut incoming = incoming;
                incoming.description.extra.push("rtcp-mux".to_owned());
                let (caller, callee) = connect(outgoing, incoming)?;
                let answer = good_answer(&caller.opening.message)?;
                let mux = answer
                    .audio()
                    .is_some_and(|audio| audio.attribute("rtcp-mux").is_some());
                demand(mux, || "the answer holds no a=rtcp-mux".to_owned())?;
                heard(&caller, &callee)?;
                caller.media.send_report();
                let came = wait_until(SOON, || callee.media.reports() > 0);
                demand(came, || "Teams' RTCP does not reach the carrier".to_owned())?;
                callee.media.send_report();
                let back = wait_until(SOON, || caller.media.reports() > 0);
                demand(back, || {
                    "the carrier's RTCP does not reach Teams".to_owned()
                })
            },
        ),
    ]
}

fn stays() -> Vec<Row> {
    vec![
        row(
            "media/stays",
            "the carrier moves its media: towards Teams it stays put",
            |stage| {
                let (caller, callee) = stage.carrier_to_teams()?;
                heard(&caller, &callee)?;
                let before = callee.sdp()?.audio_target();
                let door = stage.lab.peer(Party::Carrier).door();
                let moved = Media::open(&door, Party::Carrier.ipv4(Side::Peer), false)?;
                let address = moved.address;
                let answer = caller.reinvite(&[], |description| description.address = address)?;
                let answer = Sdp::of(&answer.body).ok_or_else(|| LabError::new("no answer"))?;
                caller.media.send_to(None, 0);
                moved.send_to(answer.audio_target(), 0);
                demand(callee.sdp()?.audio_target() == before, || {
                    "Teams is told another address".to_owned()
                })?;
                moved.hears(&callee.media, "the carrier at its new port")?;
                callee.media.hears(&moved, "Teams")?;
                moved.end();
                Ok(())
            },
        ),
        row("media/reinvite", "also over hold and refreshes", |stage| {
            let (caller, callee) = stage.teams_to_carrier()?;
            let before = caller.sdp()?.audio_target();
            for direction in ["inactive", "sendrecv"] {
                caller.reinvite(&[], |description| description.direction = direction)?;
            }
            callee.reinvite(&[], |_| {})?;
            demand(caller.sdp()?.audio_target() == before, || {
                "Teams is told another address".to_owned()
            })
        }),
    ]
}
