//! Offers that nobody has just made.

use super::{super::*, *};

fn origin(body: &str) -> &str {
    body.lines().find(|line| line.starts_with("o=")).unwrap()
}

fn crypto_lines(body: &str) -> Vec<&str> {
    body.lines()
        .filter(|line| line.starts_with("a=crypto"))
        .collect()
}

#[test]
fn another_endpoint_has_a_key_of_its_own() {
    let mut call = negotiation(SrtpPolicy::Require, SrtpPolicy::Off);
    let offer = |key: &str| {
        let line = format!("crypto:1 AES_CM_128_HMAC_SHA1_80 inline:{key}");
        sdp("RTP/SAVP", "0", &[&line])
    };
    let first = offer(fixtures::KEY_30);
    call.offer(Side::A, first.as_bytes(), &mut random())
        .unwrap();
    call.answer(Side::B, plain_sdp("0", &[]).as_bytes())
        .unwrap();
    call.commit().unwrap();
    let is_elsewhere = |body: &str| call.is_elsewhere(Side::A, body.as_bytes());
    assert_eq!(is_elsewhere(&first), Ok(false));
    assert_eq!(is_elsewhere(&offer(fixtures::OTHER_KEY_30)), Ok(true));
    assert_eq!(
        is_elsewhere(&plain_sdp("0", &[])),
        Err(SdpError::SrtpRequired)
    );
}

/// A carrier at A with its own numbers, Teams at B.
fn agreed() -> Negotiation {
    let mut call = negotiation(SrtpPolicy::Off, SrtpPolicy::Require);
    let offer = plain_sdp("0 99", &["rtpmap:99 telephone-event/8000", "fmtp:99 0-15"]);
    let body = call
        .offer(Side::A, offer.as_bytes(), &mut random())
        .unwrap();
    let tag = crypto_lines(&body)[0];
    let number = body
        .lines()
        .find(|line| line.contains("telephone-event"))
        .and_then(|line| line.strip_prefix("a=rtpmap:")?.split(' ').next())
        .unwrap()
        .to_owned();
    let answer = sdp(
        "RTP/SAVP",
        &format!("0 {number}"),
        &[&tag[2..], &format!("rtpmap:{number} telephone-event/8000")],
    );
    call.answer(Side::B, answer.as_bytes()).unwrap();
    call.commit().unwrap();
    call
}

#[test]
fn a_refresh_keeps_keys_numbers_and_from_the_second_on_the_version() {
    let mut call = agreed();
    let before = call.media().unwrap();
    let mut offers = Vec::new();
    for _ in 0..3 {
        let offer = call.offer_again(Side::B, None, &mut random()).unwrap();
        let answer = sdp(
            "RTP/SAVP",
            "0 99",
            &[
                &crypto_lines(&offer)[0][2..],
                "rtpmap:99 telephone-event/8000",
            ],
        );
        call.take_answer(Side::B, answer.as_bytes()).unwrap();
        call.commit().unwrap();
        offers.push(offer);
    }
    assert_eq!(origin(&offers[1]), origin(&offers[2]));
    assert_eq!(offers[1], offers[2]);
    let after = call.media().unwrap();
    let protect = |media: &NegotiatedMedia| media.legs[1].srtp.clone().unwrap().protect;
    assert_eq!(protect(&before), protect(&after));
    assert_eq!(before.streams, after.streams);
    assert_eq!(before.legs[0].remote, after.legs[0].remote);
    // The carrier's side was not told anything, so its description has not changed either.
    let told = call.offer_again(Side::A, None, &mut random()).unwrap();
    assert!(told.contains("a=rtpmap:99 telephone-event/8000"), "{told}");
    assert!(crypto_lines(&told).is_empty());
}

#[test]
fn a_new_peer_is_offered_what_the_other_side_can_do_by_its_own_policy() {
    let call = agreed();
    let mut new = call.with_new_peer(
        Side::B,
        policy("203.0.113.1:21002", SrtpPolicy::Off),
        &mut random(),
    );
    let direction = Some(Direction::SendReceive);
    let offer = new.offer_again(Side::B, direction, &mut random()).unwrap();
    assert!(offer.contains("m=audio 21002 RTP/AVP 0"), "{offer}");
    assert!(crypto_lines(&offer).is_empty());
    assert_ne!(origin(&offer), "");
    let answer = plain_sdp("0", &[]);
    new.take_answer(Side::B, answer.as_bytes()).unwrap();
    new.commit().unwrap();
    let media = new.media().unwrap();
    assert_eq!(media.legs[1].srtp, None);
    assert_eq!(media.legs[0].remote, call.media().unwrap().legs[0].remote);
    // The old one still stands as it was.
    assert!(call.media().unwrap().legs[1].srtp.is_some());
}

#[test]
fn an_offer_made_unasked_holds_what_both_trunks_name() {
    let mut call = negotiation(SrtpPolicy::Off, SrtpPolicy::Require);
    let offer = call.offer_unasked(Side::B, &mut random()).unwrap();
    assert!(offer.contains("RTP/SAVP 8 0 101"), "{offer}");
    assert!(!crypto_lines(&offer).is_empty());
    let answer = sdp(
        "RTP/SAVP",
        "8 101",
        &[
            &crypto_lines(&offer)[0][2..],
            "rtpmap:101 telephone-event/8000",
        ],
    );
    call.take_answer(Side::B, answer.as_bytes()).unwrap();
    call.commit().unwrap();
    let back = call.offer_again(Side::A, None, &mut random()).unwrap();
    assert!(back.contains("RTP/AVP 8 101"), "{back}");
    call.take_answer(
        Side::A,
        plain_sdp("8 101", &["rtpmap:101 telephone-event/8000"]).as_bytes(),
    )
    .unwrap();
    call.commit().unwrap();
    let media = call.media().unwrap();
    assert!(media.legs.iter().all(|leg| leg.remote.is_some()));

    let filter = |names: &[&str]| {
        let mut policy = policy(LOCAL_A, SrtpPolicy::Off);
        policy.codecs = CodecFilter::new(names);
        policy
    };
    let mut none = Negotiation::new([filter(&["opus"]), filter(&["G729"])], &mut random());
    assert_eq!(
        none.offer_unasked(Side::B, &mut random()),
        Err(SdpError::NoSharedCodec)
    );
}

#[test]
fn an_offer_that_changes_nothing_is_answered_without_asking_anybody() {
    let mut negotiation = negotiation(SrtpPolicy::Require, SrtpPolicy::Off);
    let random = &mut random();
    let offer = |version: u32, port: u16, key: &str| {
        let line = format!("crypto:1 AES_CM_128_HMAC_SHA1_80 inline:{key}");
        sdp("RTP/SAVP", "0 8", &[&line])
            .replace("o=- 1 1 ", &format!("o=- 1 {version} "))
            .replace("audio 4000", &format!("audio {port}"))
    };
    let first = offer(1, 4000, fixtures::KEY_30);
    let refresh = |negotiation: &mut Negotiation, body: &str, random: &mut _| {
        negotiation.answer_unchanged(Side::A, body.as_bytes(), random)
    };
    assert!(refresh(&mut negotiation, &first, random).is_err());
    negotiation
        .offer(Side::A, first.as_bytes(), random)
        .unwrap();
    let told = negotiation
        .answer(Side::B, plain_sdp("0", &[]).as_bytes())
        .unwrap();
    negotiation.commit().unwrap();
    let media = negotiation.media();
    let answer = refresh(&mut negotiation, &first, random).unwrap();
    assert_eq!(answer, told);
    for changed in [
        offer(2, 4000, fixtures::KEY_30),
        offer(1, 4002, fixtures::KEY_30),
        offer(1, 4000, fixtures::OTHER_KEY_30),
        format!("{first}a=inactive\r\n"),
    ] {
        assert_eq!(
            refresh(&mut negotiation, &changed, random),
            Err(SdpError::Unchangeable("what was agreed")),
            "{changed}"
        );
    }
    assert_eq!(negotiation.media(), media);
    // The other leg was told nothing, and what it is told next is numbered as if nothing had been.
    let again = negotiation.offer_again(Side::B, None, random).unwrap();
    assert!(again.contains(" 2 IN IP4"), "{again}");
    // An offer that is on its way is not disturbed.
    assert_eq!(refresh(&mut negotiation, &first, random), Ok(told));
    negotiation
        .take_answer(Side::B, plain_sdp("0", &[]).as_bytes())
        .unwrap();
    negotiation.commit().unwrap();
}

/// A call in which each side has said something of its own of each codec, and of AMR in two variants,
/// of which the second was taken.
fn particular() -> Negotiation {
    let mut call = plain();
    let offer = [
        "rtpmap:96 AMR/8000",
        "fmtp:96 octet-align=1",
        "rtpmap:97 AMR/8000",
        "fmtp:97 mode-set=0,7",
        "rtpmap:101 telephone-event/8000",
        "fmtp:101 0-15",
    ];
    let offer = plain_sdp("96 97 18 101", &offer);
    call.offer(Side::A, offer.as_bytes(), &mut random())
        .unwrap();
    let answer = [
        "rtpmap:97 AMR/8000",
        "fmtp:97 mode-set=7",
        "fmtp:18 annexb=no",
        "rtpmap:101 telephone-event/8000",
        "fmtp:101 0-11",
    ];
    let answer = plain_sdp("97 18 101", &answer);
    call.answer(Side::B, answer.as_bytes()).unwrap();
    call.commit().unwrap();
    call
}

fn parameters(body: &str) -> Vec<&str> {
    let lines = body.lines();
    lines
        .filter_map(|line| line.strip_prefix("a=fmtp:"))
        .collect()
}

const OF_A: [&str; 2] = ["97 mode-set=0,7", "101 0-15"];
const OF_B: [&str; 3] = ["97 mode-set=7", "18 annexb=no", "101 0-11"];

#[test]
fn a_refresh_says_of_each_codec_what_the_other_side_has_said() {
    for (to, said) in [(Side::A, &OF_B[..]), (Side::B, &OF_A)] {
        let mut call = particular();
        let offer = call.offer_again(to, None, &mut random()).unwrap();
        assert_eq!(parameters(&offer), said, "{to:?}");
    }
}

#[test]
fn a_new_peer_is_told_what_the_side_that_stays_has_said_of_its_codecs() {
    let policy = policy("203.0.113.1:21002", SrtpPolicy::Off);
    let mut transferred = particular().with_new_peer(Side::B, policy, &mut random());
    let offer = transferred
        .offer_again(Side::B, None, &mut random())
        .unwrap();
    assert_eq!(parameters(&offer), OF_A);

    // Two callers that the same callee has joined: each is told of the other.
    let mut joined = particular().joined(Side::A, &particular(), Side::A);
    let offer = joined.offer_again(Side::B, None, &mut random()).unwrap();
    assert_eq!(parameters(&offer), OF_A);
}

#[test]
fn a_refresh_says_nothing_new_of_packet_times() {
    let mut call = plain();
    let offer = plain_sdp("0", &["ptime:30", "maxptime:60"]);
    let offered = call
        .offer(Side::A, offer.as_bytes(), &mut random())
        .unwrap();
    let answer = plain_sdp("0", &["ptime:20"]);
    let answered = call.answer(Side::B, answer.as_bytes()).unwrap();
    call.commit().unwrap();
    // By the other side, without anybody asked, and by us.
    assert_eq!(
        call.answer_unchanged(Side::A, offer.as_bytes(), &mut random()),
        Ok(answered.clone())
    );
    for (to, told) in [(Side::A, answered), (Side::B, offered)] {
        let again = call.offer_again(to, None, &mut random()).unwrap();
        let times = |body: &str| {
            let lines = body.lines().map(str::to_owned);
            lines
                .filter(|line| line.contains("ptime"))
                .collect::<Vec<_>>()
        };
        assert_eq!(times(&again), times(&told));
        call.rollback();
    }
}
