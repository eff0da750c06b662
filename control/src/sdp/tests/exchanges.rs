//! Whole exchanges: calls with and without an offer, re-INVITEs, what is refused.

use super::{
    super::{CodecFilter, Negotiation, SdpError, Side, SrtpPolicy, family},
    LOCAL_A, LOCAL_B,
    fixtures::*,
    plain, plain_sdp, policy, random,
    reading::{Reading, assert_answers, assert_ours},
};
use relay_user::media::Family;

#[test]
fn a_carrier_calls_a_contact_centre() {
    let mut call = plain();
    let offer = call
        .offer(Side::A, CARRIER.as_bytes(), &mut random())
        .unwrap();
    assert_ours(&offer, "203.0.113.1");
    let audio = Reading::of(&offer).audio().clone();
    assert_eq!(audio.port, 21000);
    assert_eq!(audio.formats, ["8", "0", "18", "101"]);
    assert_eq!(audio.transport, "RTP/AVP");
    assert!(audio.has("fmtp:18 annexb=no") && audio.has("fmtp:101 0-15"));
    assert!(audio.has("ptime:20") && audio.has("maxptime:40") && audio.has("sendrecv"));
    assert!(!offer.contains("198.51.100"), "nothing of A shows to B");
    assert!(call.media().is_none());

    let answer = call.answer(Side::B, GENESYS.as_bytes()).unwrap();
    assert_ours(&answer, "192.0.2.1");
    assert_answers(CARRIER, &answer);
    let audio = Reading::of(&answer).audio().clone();
    // B's order, A's numbers.
    assert_eq!(audio.formats, ["0", "8", "101"]);
    assert!(!answer.contains("203.0.113") && !answer.contains("Genesys"));
    call.commit().unwrap();

    let media = call.media().unwrap();
    assert_eq!(media.codec.name, "PCMU");
    let [a, b] = &media.legs;
    assert_eq!(a.remote.unwrap().rtp, "198.51.100.9:16384".parse().unwrap());
    assert_eq!(
        a.remote.unwrap().rtcp,
        "198.51.100.9:16385".parse().unwrap()
    );
    assert_eq!(b.remote.unwrap().rtp, "203.0.113.6:36000".parse().unwrap());
    assert_eq!((&a.srtp, &b.srtp), (&None, &None));
    let [ab, ba] = &media.streams;
    assert!(ab.active && ba.active);
    assert_eq!(ab.clock_rate, 8000);
    assert_eq!(ab.payload_types, [(0, 0), (8, 8), (101, 96)]);
    // B was offered 101 and may send that, or by its own number.
    assert_eq!(ba.payload_types, [(0, 0), (8, 8), (101, 101), (96, 101)]);
}

#[test]
fn a_call_without_an_offer_is_offered_by_the_callee() {
    let mut call = plain();
    let offer = call
        .offer(Side::B, GENESYS.as_bytes(), &mut random())
        .unwrap();
    assert_ours(&offer, "192.0.2.1");
    assert_eq!(call.pending(), Some(Side::B));
    let answer = call
        .answer(
            Side::A,
            plain_sdp("8 96", &["rtpmap:96 telephone-event/8000"]).as_bytes(),
        )
        .unwrap();
    assert_ours(&answer, "203.0.113.1");
    assert_answers(GENESYS, &answer);
    call.commit().unwrap();
    let media = call.media().unwrap();
    assert_eq!(media.streams[0].payload_types, [(8, 8), (96, 96)]);
    assert_eq!(
        media.legs[1].remote.unwrap().rtp.to_string(),
        "203.0.113.6:36000"
    );
}

#[test]
fn early_answers_replace_each_other_and_repetitions_keep_the_version() {
    let mut call = plain();
    call.offer(Side::A, CARRIER.as_bytes(), &mut random())
        .unwrap();
    let first = call
        .answer(Side::B, plain_sdp("0", &[]).as_bytes())
        .unwrap();
    assert!(call.media().is_some(), "early media has a path");
    let again = call
        .answer(Side::B, plain_sdp("0", &[]).as_bytes())
        .unwrap();
    assert_eq!(first, again);
    assert_eq!(call.media().unwrap().legs[1].negotiation, 1);
    let other = call
        .answer(Side::B, plain_sdp("8", &[]).as_bytes())
        .unwrap();
    let versions = [&first, &other].map(|body| Reading::of(body).version());
    assert_eq!(versions[1], versions[0] + 1);
    assert_eq!(
        Reading::of(&first).session_id(),
        Reading::of(&other).session_id()
    );
    call.commit().unwrap();
    assert_eq!(call.media().unwrap().codec.name, "PCMA");
    assert_eq!(call.media().unwrap().legs[1].negotiation, 2);
}

#[test]
fn a_codec_changes_by_a_re_invite_and_a_refused_one_changes_nothing() {
    let mut call = plain();
    let first = call
        .offer(Side::A, CARRIER.as_bytes(), &mut random())
        .unwrap();
    call.answer(Side::B, plain_sdp("0", &[]).as_bytes())
        .unwrap();
    call.commit().unwrap();
    let before = call.media().unwrap();

    let refused = call
        .offer(Side::A, plain_sdp("18", &[]).as_bytes(), &mut random())
        .unwrap();
    assert_eq!(
        Reading::of(&refused).version(),
        Reading::of(&first).version() + 1
    );
    call.rollback();
    assert_eq!(call.media().unwrap(), before);
    assert_eq!(call.pending(), None);

    let changed = call
        .offer(Side::B, plain_sdp("8", &[]).as_bytes(), &mut random())
        .unwrap();
    assert_eq!(Reading::of(&changed).audio().formats, ["8"]);
    call.answer(Side::A, plain_sdp("8", &[]).as_bytes())
        .unwrap();
    call.commit().unwrap();
    let media = call.media().unwrap();
    assert_eq!(media.codec.name, "PCMA");
    assert_eq!(media.streams[0].payload_types, [(8, 8)]);
    assert!(media.legs[1].negotiation > before.legs[1].negotiation);

    // A version that went out with other words is not used again.
    let later = call
        .offer(Side::A, plain_sdp("0", &[]).as_bytes(), &mut random())
        .unwrap();
    assert!(Reading::of(&later).version() > Reading::of(&refused).version());
}

#[test]
fn a_payload_type_never_changes_its_meaning_within_a_session() {
    let mut call = plain();
    let opus = plain_sdp("96 0", &["rtpmap:96 opus/48000/2"]);
    let offer = call.offer(Side::A, opus.as_bytes(), &mut random()).unwrap();
    assert_eq!(Reading::of(&offer).audio().formats, ["96", "0"]);
    call.answer(Side::B, plain_sdp("0", &[]).as_bytes())
        .unwrap();
    call.commit().unwrap();
    // A number that is free in the offer is not free for another codec.
    let other = plain_sdp("96", &["rtpmap:96 iLBC/8000"]);
    let offer = call
        .offer(Side::A, other.as_bytes(), &mut random())
        .unwrap();
    assert_eq!(Reading::of(&offer).audio().formats, ["97"]);
    call.rollback();
    // B may name its own 97, but 96 stays opus in what we offer it.
    let ilbc = plain_sdp("96 97", &["rtpmap:96 iLBC/8000", "rtpmap:97 opus/48000/2"]);
    let offer = call.offer(Side::A, ilbc.as_bytes(), &mut random()).unwrap();
    assert_eq!(
        Reading::of(&offer).audio().codecs(),
        [
            (97, "ilbc/8000".to_owned()),
            (96, "opus/48000/2".to_owned())
        ]
    );
    let answer = call.answer(Side::B, ilbc.as_bytes()).unwrap();
    assert_eq!(
        Reading::of(&answer).audio().codecs(),
        [
            (96, "ilbc/8000".to_owned()),
            (97, "opus/48000/2".to_owned())
        ]
    );
    call.commit().unwrap();
    let media = call.media().unwrap();
    assert_eq!(media.streams[0].payload_types, [(96, 96), (97, 97)]);
    // Both of B's numbers are offered ones, so they mean what the offer said.
    assert_eq!(media.streams[1].payload_types, [(97, 96), (96, 97)]);
}

#[test]
fn variants_of_a_codec_are_told_apart_by_number_and_parameters() {
    let amr = &[
        "rtpmap:96 AMR/8000",
        "fmtp:96 octet-align=0",
        "rtpmap:97 AMR/8000",
        "fmtp:97 octet-align=1",
    ];
    let mut call = plain();
    call.offer(Side::A, plain_sdp("96 97", amr).as_bytes(), &mut random())
        .unwrap();
    let answer = call
        .answer(
            Side::B,
            plain_sdp("104", &["rtpmap:104 amr/8000", "fmtp:104 octet-align=1"]).as_bytes(),
        )
        .unwrap();
    assert_eq!(Reading::of(&answer).audio().formats, ["97"]);
    call.commit().unwrap();
    assert_eq!(call.media().unwrap().streams[0].payload_types, [(97, 104)]);
}

#[test]
fn events_match_at_their_own_clock_rate_only() {
    let mut call = plain();
    let offer = plain_sdp(
        "96 0 101 110",
        &[
            "rtpmap:96 opus/48000/2",
            "rtpmap:101 telephone-event/8000",
            "rtpmap:110 telephone-event/48000",
        ],
    );
    call.offer(Side::A, offer.as_bytes(), &mut random())
        .unwrap();
    let answer = call
        .answer(
            Side::B,
            plain_sdp("0 110", &["rtpmap:110 telephone-event/8000"]).as_bytes(),
        )
        .unwrap();
    assert_eq!(Reading::of(&answer).audio().formats, ["0", "101"]);
    assert_eq!(
        call.media().unwrap().streams[0].payload_types,
        [(0, 0), (101, 110)]
    );
}

#[test]
fn codec_lists_of_both_trunks_hold() {
    let mut a = policy(LOCAL_A, SrtpPolicy::Off);
    a.codecs = CodecFilter::new(&["PCMU", "PCMA", "SILK"]);
    let mut b = policy(LOCAL_B, SrtpPolicy::Off);
    b.codecs = CodecFilter::new(&["PCMA", "G729"]);
    let mut call = Negotiation::new([a, b], &mut random());
    let offer = call
        .offer(Side::A, CARRIER.as_bytes(), &mut random())
        .unwrap();
    assert_eq!(Reading::of(&offer).audio().formats, ["8", "101"]);
    // An answer may not bring back what was not offered.
    assert_eq!(
        call.answer(Side::B, plain_sdp("0", &[]).as_bytes()),
        Err(SdpError::NoSharedCodec)
    );
    assert!(
        call.answer(Side::B, plain_sdp("0 8", &[]).as_bytes())
            .is_ok()
    );
}

#[test]
fn what_cannot_be_served_is_refused_by_its_own_status() {
    let refusal = |body: &str| {
        let mut call = plain();
        let error = call
            .offer(Side::A, body.as_bytes(), &mut random())
            .unwrap_err();
        assert_eq!(call.pending(), None);
        (error.status(), error)
    };
    let (status, error) = refusal("hello");
    assert_eq!(status, 400, "{error}");
    assert_eq!(refusal(FAX_ONLY), (488, SdpError::NoAudio));
    assert_eq!(
        refusal("v=0\r\no=- 1 1 IN IP4 192.0.2.9\r\ns=-\r\nt=0 0\r\n"),
        (488, SdpError::NoAudio)
    );
    let only_events = plain_sdp("101 13", &["rtpmap:101 telephone-event/8000"]);
    assert_eq!(refusal(&only_events), (488, SdpError::NoSharedCodec));
    assert_eq!(refusal(&plain_sdp("99", &[])).1, SdpError::NoSharedCodec);
    assert_eq!(
        refusal(&TEAMS.replace("RTP/SAVP", "UDP/TLS/RTP/SAVP")).1,
        SdpError::Transport("UDP/TLS/RTP/SAVP".to_owned())
    );
    for address in ["224.2.1.1", "host.example.com", "255.255.255.255"] {
        let body = SIPP.replace("c=IN IP4 198.51.100.2", &format!("c=IN IP4 {address}"));
        assert_eq!(refusal(&body).1, SdpError::Address(address.to_owned()));
    }
    assert_eq!(
        refusal(&SIPP.replace("c=IN IP4 198.51.100.2\r\n", "")).0,
        400
    );
    let many = format!("{SIPP}{}", "m=video 0 RTP/AVP 34\r\n".repeat(64));
    assert_eq!(refusal(&many).0, 413);
    let formats = vec!["0"; 129].join(" ");
    assert_eq!(refusal(&plain_sdp(&formats, &[])).0, 413);
    let long = format!("{SIPP}{}", "a=x\r\n".repeat(20_000));
    assert_eq!(refusal(&long).0, 413);
}

#[test]
fn an_error_shows_little_of_what_a_peer_has_written() {
    let long = "\u{1b}9".repeat(20_000);
    for body in [
        format!("v={long}\r\n{}", &SIPP[5..]),
        SIPP.replace("RTP/AVP", &long),
        SIPP.replace("c=IN IP4 198.51.100.2", &format!("c=IN IP4 {long}")),
    ] {
        let error = plain()
            .offer(Side::A, body.as_bytes(), &mut random())
            .unwrap_err()
            .to_string();
        assert!(error.len() < 200, "{} octets", error.len());
        assert!(!error.contains(char::is_control), "{error:?}");
    }
}

#[test]
fn an_answer_that_refuses_or_breaks_the_offer_is_an_error() {
    let mut call = plain();
    call.offer(Side::A, SIPP.as_bytes(), &mut random()).unwrap();
    let refused = SIPP.replace("m=audio 6000", "m=audio 0");
    assert_eq!(
        call.answer(Side::B, refused.as_bytes()),
        Err(SdpError::StreamRefused)
    );
    assert_eq!(call.answer(Side::B, b"").unwrap_err().status(), 400);
    assert_eq!(
        call.answer(Side::A, SIPP.as_bytes()),
        Err(SdpError::NotPending)
    );
    assert_eq!(
        call.offer(Side::B, SIPP.as_bytes(), &mut random())
            .unwrap_err()
            .status(),
        491
    );
    assert_eq!(call.commit(), Err(SdpError::NotPending));
    assert_eq!(call.pending(), Some(Side::A), "the offer still waits");
    call.answer(Side::B, SIPP.as_bytes()).unwrap();
    call.commit().unwrap();
    assert_eq!(
        call.answer(Side::B, SIPP.as_bytes()),
        Err(SdpError::NotPending)
    );
}

#[test]
fn media_lines_keep_their_places() {
    let mut call = plain();
    let offer = call
        .offer(Side::A, VIDEO_AND_FAX.as_bytes(), &mut random())
        .unwrap();
    assert_eq!(Reading::of(&offer).media.len(), 1);
    let answer = call
        .answer(Side::B, plain_sdp("8", &[]).as_bytes())
        .unwrap();
    assert_answers(VIDEO_AND_FAX, &answer);
    let ports = |body: &str| {
        let media = Reading::of(body).media;
        media
            .into_iter()
            .map(|line| (line.media, line.port))
            .collect::<Vec<_>>()
    };
    let expected = [
        ("video".to_owned(), 0),
        ("audio".to_owned(), 20000),
        ("image".to_owned(), 0),
    ];
    assert_eq!(ports(&answer), expected);
    call.commit().unwrap();
    // B's own re-INVITE reaches A with A's lines, and B's answer has B's.
    let more = format!("{}m=video 9 RTP/AVP 34\r\n", plain_sdp("8", &[]));
    let offer = call.offer(Side::B, more.as_bytes(), &mut random()).unwrap();
    assert_eq!(ports(&offer), expected);
    let answered = VIDEO_AND_FAX.replace("m=video 40002", "m=video 0");
    let answer = call.answer(Side::A, answered.as_bytes()).unwrap();
    assert_answers(&more, &answer);
    assert_eq!(ports(&answer).len(), 2);
    call.commit().unwrap();
    let again = call
        .offer(Side::A, VIDEO_AND_FAX.as_bytes(), &mut random())
        .unwrap();
    assert_eq!(ports(&again).len(), 2);
}

#[test]
fn the_family_of_a_description_is_that_of_its_audio() {
    assert_eq!(family(SIPP.as_bytes()), Ok(Family::V4));
    assert_eq!(family(BARESIP.as_bytes()), Ok(Family::V6));
    assert_eq!(family(FAX_ONLY.as_bytes()), Err(SdpError::NoAudio));
    assert_eq!(family(b"\xff").unwrap_err().status(), 400);
}

#[test]
fn one_leg_may_be_ipv6() {
    let mut call = Negotiation::new(
        [
            policy("[2001:db8::1]:20000", SrtpPolicy::Offer),
            policy(LOCAL_B, SrtpPolicy::Off),
        ],
        &mut random(),
    );
    let offer = call
        .offer(Side::A, BARESIP.as_bytes(), &mut random())
        .unwrap();
    assert!(!offer.contains("IP6"));
    let answer = call.answer(Side::B, GENESYS.as_bytes()).unwrap();
    assert_ours(&answer, "2001:db8::1");
    assert!(answer.contains("c=IN IP6 2001:db8::1\r\n"));
    assert_answers(BARESIP, &answer);
}

#[test]
fn a_leg_cannot_be_sent_to_in_another_family_than_its_ports() {
    let elsewhere = plain_sdp("0", &[]).replace("c=IN IP4 198.51.100.2", "c=IN IP6 2001:db8::2");
    let mut call = plain();
    assert_eq!(
        call.offer(Side::A, elsewhere.as_bytes(), &mut random()),
        Err(SdpError::Family(Family::V4))
    );
    call.offer(Side::A, plain_sdp("0", &[]).as_bytes(), &mut random())
        .unwrap();
    // Of RTCP alone nobody is refused: it goes beside RTP.
    let answer = plain_sdp("0", &["rtcp:9001 IN IP6 2001:db8::2"]);
    call.answer(Side::B, answer.as_bytes()).unwrap();
    let media = call.media().unwrap();
    assert_eq!(
        media.legs[1].remote.unwrap().rtcp,
        "198.51.100.2:9001".parse().unwrap()
    );

    // Where a peer leaves the choice, the line that can be served is taken.
    let both = elsewhere + "m=audio 4002 RTP/AVP 0\r\nc=IN IP4 198.51.100.2\r\n";
    let mut call = plain();
    call.offer(Side::A, both.as_bytes(), &mut random()).unwrap();
    let answer = call
        .answer(Side::B, plain_sdp("0", &[]).as_bytes())
        .unwrap();
    let ports: Vec<u16> = Reading::of(&answer)
        .media
        .iter()
        .map(|it| it.port)
        .collect();
    assert_eq!(ports, [0, 20000]);

    // With ICE it is the checks that say where a peer is.
    let mut a = policy(LOCAL_A, SrtpPolicy::Off);
    a.ice = true;
    let mut call = Negotiation::new([a, policy(LOCAL_B, SrtpPolicy::Off)], &mut random());
    let ice = ["ice-ufrag:aBcD", "ice-pwd:0123456789abcdefghijklmn"];
    let checked = plain_sdp("0", &ice).replace("c=IN IP4 198.51.100.2", "c=IN IP6 2001:db8::2");
    let offer = call.offer(Side::A, checked.as_bytes(), &mut random());
    assert!(offer.is_ok());
}
