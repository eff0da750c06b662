//! How single attributes are read and written.

use super::{
    super::{Negotiation, Side, SrtpPolicy},
    LOCAL_A, LOCAL_B,
    fixtures::*,
    plain, plain_sdp, policy, random,
    reading::Reading,
};

#[test]
fn the_address_of_rtcp_is_where_a_rtcp_says() {
    for (attribute, rtcp) in [
        ("rtcp:5000", "198.51.100.2:5000"),
        ("rtcp:5000 IN IP4 198.51.100.7", "198.51.100.7:5000"),
        ("rtcp:nonsense", "198.51.100.2:4001"),
        ("rtcp:0", "198.51.100.2:4001"),
        ("rtcp:99999", "198.51.100.2:4001"),
    ] {
        let mut call = plain();
        let offer = plain_sdp("0", &[attribute]);
        call.offer(Side::A, offer.as_bytes(), &mut random())
            .unwrap();
        let answer = call.answer(Side::B, SIPP.as_bytes()).unwrap();
        assert!(!answer.contains("a=rtcp"), "ours is the next port");
        let remote = call.media().unwrap().legs[0].remote.unwrap();
        assert_eq!(remote.rtcp.to_string(), rtcp, "{attribute}");
    }
}

#[test]
fn rtcp_is_multiplexed_only_when_both_say_so() {
    for (allowed, answered) in [(true, true), (true, false), (false, true)] {
        let mut b = policy(LOCAL_B, SrtpPolicy::Off);
        b.rtcp_mux = allowed;
        let mut call = Negotiation::new([policy(LOCAL_A, SrtpPolicy::Off), b], &mut random());
        let offer = call.offer(Side::A, SIPP.as_bytes(), &mut random()).unwrap();
        assert_eq!(Reading::of(&offer).audio().has("rtcp-mux"), allowed);
        let attributes: &[&str] = if answered { &["rtcp-mux"] } else { &[] };
        let answer = call
            .answer(Side::B, plain_sdp("0", attributes).as_bytes())
            .unwrap();
        assert!(!answer.contains("rtcp-mux"), "A did not offer it");
        let leg = &call.media().unwrap().legs[1];
        assert_eq!(leg.rtcp_mux, allowed && answered);
        let remote = leg.remote.unwrap();
        assert_eq!(remote.rtp == remote.rtcp, leg.rtcp_mux);
    }
}

#[test]
fn numbers_that_do_not_suit_the_other_side_are_replaced() {
    let mut call = plain();
    // Names on numbers that RFC 3551 gives to others, or that look like RTCP.
    let offer = plain_sdp(
        "4 72 120 0",
        &[
            "rtpmap:4 opus/48000/2",
            "rtpmap:72 iLBC/8000",
            "rtpmap:120 PCMU/16000",
        ],
    );
    let ours = call
        .offer(Side::A, offer.as_bytes(), &mut random())
        .unwrap();
    assert_eq!(
        Reading::of(&ours).audio().codecs(),
        [
            (96, "opus/48000/2".to_owned()),
            (97, "ilbc/8000".to_owned()),
            (120, "pcmu/16000".to_owned()),
            (0, "pcmu/8000".to_owned())
        ]
    );
}

#[test]
fn a_damaged_format_costs_only_itself() {
    let mut call = plain();
    let offer = plain_sdp(
        "300 x 96 97 98 0 0",
        &[
            "rtpmap:96 opus",
            "rtpmap:97 /8000",
            "rtpmap:98 L16/0",
            "rtpmap",
            "fmtp",
            "fmtp:0",
            "ptime:abc",
        ],
    );
    let ours = call
        .offer(Side::A, offer.as_bytes(), &mut random())
        .unwrap();
    assert_eq!(Reading::of(&ours).audio().formats, ["0"]);
    assert!(!ours.contains("ptime") && !ours.contains("fmtp"));
}

#[test]
fn events_go_with_the_last_codec_of_their_clock_rate() {
    let mut a = policy(LOCAL_A, SrtpPolicy::Off);
    a.codecs = super::super::CodecFilter::new(&["PCMU"]);
    let mut call = Negotiation::new([a, policy(LOCAL_B, SrtpPolicy::Off)], &mut random());
    let offer = plain_sdp(
        "96 0 101 110",
        &[
            "rtpmap:96 opus/48000/2",
            "rtpmap:101 telephone-event/8000",
            "rtpmap:110 telephone-event/48000",
        ],
    );
    let ours = call
        .offer(Side::A, offer.as_bytes(), &mut random())
        .unwrap();
    assert_eq!(Reading::of(&ours).audio().formats, ["0", "101"]);
}
