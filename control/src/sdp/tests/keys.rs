//! SRTP: which keys and suites are offered, answered, kept and refused (RFC 4568).

use relay_user::media::SrtpSuite;

use super::{
    super::{Negotiation, SdpError, Side, SrtpPolicy},
    fixtures::*,
    negotiation, plain_sdp, random,
    reading::{Reading, assert_answers, assert_ours},
    sdp,
};

const SHA1_80: &str = "AES_CM_128_HMAC_SHA1_80";

fn crypto(body: &str) -> Vec<String> {
    let reading = Reading::of(body);
    let lines = reading.audio().values("crypto");
    lines.into_iter().map(str::to_owned).collect()
}

fn secure(crypto: &[&str]) -> String {
    let lines: Vec<String> = crypto.iter().map(|line| format!("crypto:{line}")).collect();
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    sdp("RTP/SAVP", "0", &lines)
}

fn to_teams() -> (Negotiation, String) {
    let mut call = negotiation(SrtpPolicy::Off, SrtpPolicy::Require);
    let offer = call
        .offer(Side::A, CARRIER.as_bytes(), &mut random())
        .unwrap();
    (call, offer)
}

#[test]
fn a_carrier_calls_teams() {
    let (mut call, offer) = to_teams();
    assert_ours(&offer, "203.0.113.1");
    assert_eq!(Reading::of(&offer).audio().transport, "RTP/SAVP");
    let lines = crypto(&offer);
    assert!(lines[0].starts_with("1 AES_CM_128_HMAC_SHA1_80 inline:"));
    assert!(lines.iter().all(|line| line.ends_with("|2^31")));

    // Two keys in the answer, one with an identifier.
    let answer = secure(&[
        &format!("1 {SHA1_80} inline:{KEY_30}|2^31|1:1"),
        &format!("1 {SHA1_80} inline:{OTHER_KEY_30}|2^31"),
    ]);
    let ours = call.answer(Side::B, answer.as_bytes()).unwrap();
    assert_answers(CARRIER, &ours);
    assert!(!ours.contains("crypto"), "the plain leg sees no key");
    call.commit().unwrap();
    let media = call.media().unwrap();
    let keys = media.legs[1].srtp.as_ref().unwrap();
    assert_eq!(media.legs[0].srtp, None);
    assert_eq!(keys.protect.suite, SrtpSuite::AesCm128HmacSha1_80);
    assert_eq!(keys.unprotect.suite, SrtpSuite::AesCm128HmacSha1_80);
    assert_eq!(keys.unprotect.mki, None);
    assert_eq!(keys.unprotect.master[0], b'=');
    assert_ne!(keys.protect.master, keys.unprotect.master);
}

#[test]
fn teams_calls_a_carrier() {
    let mut call = negotiation(SrtpPolicy::Require, SrtpPolicy::Off);
    let offer = call
        .offer(Side::A, TEAMS.as_bytes(), &mut random())
        .unwrap();
    let audio = Reading::of(&offer).audio().clone();
    assert_eq!(audio.transport, "RTP/AVP");
    assert!(!offer.contains("crypto") && !offer.contains(KEY_30));
    // Redundancy names payload types inside its packets.
    assert_eq!(
        audio.formats,
        ["104", "9", "103", "111", "18", "0", "8", "101", "13", "118"]
    );
    assert!(audio.has("fmtp:111 bitrate=16000"));
    let answer = call
        .answer(
            Side::B,
            plain_sdp("8 101", &["rtpmap:101 telephone-event/8000"]).as_bytes(),
        )
        .unwrap();
    assert_answers(TEAMS, &answer);
    let lines = crypto(&answer);
    assert_eq!(lines.len(), 1);
    assert!(lines[0].starts_with("1 AES_CM_128_HMAC_SHA1_80 inline:"));
    assert!(!answer.contains(KEY_30), "the key is our own");
    let media = call.media().unwrap();
    let keys = media.legs[0].srtp.clone().unwrap();
    assert_eq!(keys.unprotect.master[..4], *b"YS__");
}

#[test]
fn media_bypass_attributes_are_not_passed_on_and_the_port_is_shared() {
    let mut call = negotiation(SrtpPolicy::Require, SrtpPolicy::Off);
    let offer = call
        .offer(Side::A, TEAMS_BYPASS.as_bytes(), &mut random())
        .unwrap();
    for gone in ["ice-", "candidate", "10.1.2.3", "ssrc", "52.112"] {
        assert!(!offer.contains(gone), "{gone}");
    }
    let answer = call
        .answer(Side::B, plain_sdp("0", &[]).as_bytes())
        .unwrap();
    assert_answers(TEAMS_BYPASS, &answer);
    let audio = Reading::of(&answer).audio().clone();
    assert!(audio.has("rtcp-mux") && audio.has("rtcp:20000"));
    let media = call.media().unwrap();
    assert!(media.legs[0].rtcp_mux && !media.legs[1].rtcp_mux);
    let remote = media.legs[0].remote.unwrap();
    assert_eq!(remote.rtp, remote.rtcp);
    let keys = media.legs[0].srtp.clone().unwrap();
    assert_eq!(keys.unprotect.mki, Some(vec![1]));
    assert_eq!(keys.protect.mki, None);
}

#[test]
fn a_short_tag_is_used_only_when_nothing_else_is_offered() {
    let mut call = negotiation(SrtpPolicy::Require, SrtpPolicy::Off);
    let offer = secure(&[&format!("9 AES_CM_128_HMAC_SHA1_32 inline:{KEY_30}")]);
    call.offer(Side::A, offer.as_bytes(), &mut random())
        .unwrap();
    let answer = call
        .answer(Side::B, plain_sdp("0", &[]).as_bytes())
        .unwrap();
    assert_answers(&offer, &answer);
    assert!(crypto(&answer)[0].starts_with("9 AES_CM_128_HMAC_SHA1_32 "));
}

#[test]
fn keys_of_256_bits_and_gcm_are_taken_by_any_of_their_names() {
    let long = "A".repeat(62) + "==";
    for (suite, key) in [
        ("AES_256_CM_HMAC_SHA1_80", &long),
        ("AES_CM_256_HMAC_SHA1_80", &long),
        ("AEAD_AES_128_GCM", &("A".repeat(38) + "==")),
        ("AEAD_AES_256_GCM", &("A".repeat(59) + "=")),
    ] {
        let mut call = negotiation(SrtpPolicy::Require, SrtpPolicy::Off);
        let offer = secure(&[&format!("4 {suite} inline:{key}")]);
        call.offer(Side::A, offer.as_bytes(), &mut random())
            .unwrap_or_else(|error| panic!("{suite}: {error}"));
        let answer = call
            .answer(Side::B, plain_sdp("0", &[]).as_bytes())
            .unwrap();
        assert_answers(&offer, &answer);
    }
}

#[test]
fn our_keys_and_suite_stay_over_a_refresh_from_either_side() {
    let (mut call, offer) = to_teams();
    let short = format!("2 AES_CM_128_HMAC_SHA1_32 inline:{KEY_30}|2^31");
    call.answer(Side::B, secure(&[&short]).as_bytes()).unwrap();
    call.commit().unwrap();
    let before = call.media().unwrap().legs[1].srtp.clone().unwrap();

    // Ours again: the same keys, the one in use first.
    let again = call
        .offer(Side::A, CARRIER.as_bytes(), &mut random())
        .unwrap();
    let keys = |body: &str| {
        let mut keys: Vec<String> = crypto(body)
            .iter()
            .map(|line| line.split_once(' ').unwrap().1.to_owned())
            .collect();
        keys.sort();
        keys
    };
    assert_eq!(keys(&offer), keys(&again));
    assert!(crypto(&again)[0].contains("_32"));
    call.answer(
        Side::B,
        secure(&[&short.replace("2 AES", "1 AES")]).as_bytes(),
    )
    .unwrap();
    call.commit().unwrap();
    assert_eq!(call.media().unwrap().legs[1].srtp.as_ref(), Some(&before));

    // Theirs.
    call.offer(Side::B, secure(&[&short]).as_bytes(), &mut random())
        .unwrap();
    call.answer(Side::A, plain_sdp("0", &[]).as_bytes())
        .unwrap();
    call.commit().unwrap();
    assert_eq!(call.media().unwrap().legs[1].srtp.as_ref(), Some(&before));

    // Theirs with a new key: ours stays.
    let renewed = short.replace(KEY_30, OTHER_KEY_30);
    call.offer(Side::B, secure(&[&renewed]).as_bytes(), &mut random())
        .unwrap();
    call.answer(Side::A, plain_sdp("0", &[]).as_bytes())
        .unwrap();
    call.commit().unwrap();
    let after = call.media().unwrap().legs[1].srtp.clone().unwrap();
    assert_eq!(after.protect, before.protect);
    assert_ne!(after.unprotect, before.unprotect);
}

#[test]
fn a_leg_keeps_the_transport_that_it_began_with() {
    for transport in ["RTP/SAVP", "RTP/SAVPF"] {
        let mut call = negotiation(SrtpPolicy::Offer, SrtpPolicy::Off);
        let offer = secure(&[&format!("1 {SHA1_80} inline:{KEY_30}")]);
        let offer = offer.replace("RTP/SAVP", transport);
        call.offer(Side::A, offer.as_bytes(), &mut random())
            .unwrap();
        call.answer(Side::B, SIPP.as_bytes()).unwrap();
        call.commit().unwrap();
        let ours = call.offer(Side::B, SIPP.as_bytes(), &mut random()).unwrap();
        assert_eq!(Reading::of(&ours).audio().transport, transport);
        // Then there is no way back to plain.
        assert_eq!(
            call.answer(Side::A, SIPP.as_bytes()),
            Err(SdpError::SrtpRequired)
        );
    }
}

#[test]
fn required_srtp_refuses_what_is_plain_or_without_a_usable_key() {
    let offer = |policy, body: &str| {
        negotiation(policy, SrtpPolicy::Off)
            .offer(Side::A, body.as_bytes(), &mut random())
            .map(|_| ())
    };
    let unusable = secure(&["1 F8_128_HMAC_SHA1_80 inline:AAAA"]);
    let weakened = secure(&[&format!("1 {SHA1_80} inline:{KEY_30} UNENCRYPTED_SRTP")]);
    assert_eq!(
        offer(SrtpPolicy::Require, SIPP),
        Err(SdpError::SrtpRequired)
    );
    for body in [&unusable, &weakened, &secure(&[])] {
        for policy in [SrtpPolicy::Require, SrtpPolicy::Offer] {
            assert_eq!(offer(policy, body), Err(SdpError::SrtpUnusable));
        }
    }
    assert_eq!(offer(SrtpPolicy::Off, TEAMS), Err(SdpError::SrtpNotAllowed));
    assert_eq!(SdpError::SrtpRequired.status(), 488);
    assert_eq!(SdpError::SrtpNotAllowed.status(), 488);

    let (mut call, _) = to_teams();
    assert_eq!(
        call.answer(Side::B, SIPP.as_bytes()),
        Err(SdpError::SrtpRequired)
    );
    assert_eq!(
        call.answer(Side::B, secure(&[]).as_bytes()),
        Err(SdpError::SrtpUnusable)
    );
    let never_offered = secure(&[&format!("1 AEAD_AES_128_GCM inline:{}==", "A".repeat(38))]);
    assert_eq!(
        call.answer(Side::B, never_offered.as_bytes()),
        Err(SdpError::SrtpUnusable)
    );
}

#[test]
fn offered_srtp_falls_back_to_plain() {
    let mut call = negotiation(SrtpPolicy::Off, SrtpPolicy::Offer);
    let offer = call.offer(Side::A, SIPP.as_bytes(), &mut random()).unwrap();
    assert_eq!(Reading::of(&offer).audio().transport, "RTP/AVP");
    assert_eq!(crypto(&offer).len(), 2);
    call.answer(Side::B, SIPP.as_bytes()).unwrap();
    assert_eq!(call.media().unwrap().legs[1].srtp, None);

    let with_key = plain_sdp("0", &[&format!("crypto:1 {SHA1_80} inline:{KEY_30}")]);
    call.answer(Side::B, with_key.as_bytes()).unwrap();
    assert!(call.media().unwrap().legs[1].srtp.is_some());

    // And towards us.
    let mut call = negotiation(SrtpPolicy::Offer, SrtpPolicy::Off);
    call.offer(Side::A, with_key.as_bytes(), &mut random())
        .unwrap();
    let answer = call.answer(Side::B, SIPP.as_bytes()).unwrap();
    assert_answers(&with_key, &answer);
    assert_eq!(crypto(&answer).len(), 1);
    assert!(call.media().unwrap().legs[0].srtp.is_some());
}

#[test]
fn of_two_lines_for_one_sound_the_policy_takes_its_own() {
    for (policy, port) in [
        (SrtpPolicy::Require, [20000, 0]),
        (SrtpPolicy::Offer, [20000, 0]),
        (SrtpPolicy::Off, [0, 20000]),
    ] {
        let mut call = negotiation(policy, SrtpPolicy::Off);
        call.offer(Side::A, BEST_EFFORT.as_bytes(), &mut random())
            .unwrap();
        let answer = call.answer(Side::B, SIPP.as_bytes()).unwrap();
        assert_answers(BEST_EFFORT, &answer);
        let ports: Vec<u16> = Reading::of(&answer)
            .media
            .iter()
            .map(|line| line.port)
            .collect();
        assert_eq!(ports, port, "{policy:?}");
    }
}

#[test]
fn the_two_legs_of_a_call_never_share_a_key() {
    let mut call = negotiation(SrtpPolicy::Require, SrtpPolicy::Require);
    let offer = call
        .offer(Side::A, TEAMS.as_bytes(), &mut random())
        .unwrap();
    let answer = secure(&[&format!("1 {SHA1_80} inline:{OTHER_KEY_30}")]);
    let ours = call.answer(Side::B, answer.as_bytes()).unwrap();
    let key = |line: &str| line.split("inline:").nth(1).unwrap().to_owned();
    let answered = key(&crypto(&ours)[0]);
    assert!(crypto(&offer).iter().all(|line| key(line) != answered));
    for body in [&offer, &ours] {
        assert!(!body.contains(KEY_30) && !body.contains(OTHER_KEY_30));
    }
    let shown = format!("{call:?}{:?}", call.media());
    assert!(!shown.contains(&answered[..20]) && !shown.contains(KEY_30));
}
