//! A second offer before the call is answered.

use super::{
    super::{SdpError, Side},
    *,
};

#[test]
fn a_caller_may_narrow_its_offer_to_what_was_answered_and_goes_on_so() {
    let mut negotiation = plain();
    let random = &mut random();
    let first = plain_sdp("8 0 101", &["rtpmap:101 telephone-event/8000"]);
    let early = |negotiation: &mut Negotiation, body: &str, random: &mut _| {
        negotiation.offer_early(Side::A, body.as_bytes(), random)
    };
    assert_eq!(
        early(&mut negotiation, &first, random),
        Err(SdpError::NotPending)
    );
    negotiation
        .offer(Side::A, first.as_bytes(), random)
        .unwrap();
    assert_eq!(
        early(&mut negotiation, &first, random),
        Err(SdpError::OfferPending)
    );
    let answer = plain_sdp("0 101", &["rtpmap:101 telephone-event/8000"]);
    let told = negotiation.answer(Side::B, answer.as_bytes()).unwrap();
    assert!(told.contains("RTP/AVP 0 101"), "{told}");

    for (formats, attributes, what) in [
        ("8", &[][..], "a codec that the callee has answered with"),
        ("0", &["inactive"][..], "its direction"),
    ] {
        assert_eq!(
            early(&mut negotiation, &plain_sdp(formats, attributes), random),
            Err(SdpError::Unchangeable(what))
        );
    }
    let narrow = plain_sdp("0", &[]).replace("4000", "4010");
    let told = early(&mut negotiation, &narrow, random).unwrap();
    assert!(told.contains("RTP/AVP 0\r\n"), "{told}");
    let again = negotiation.answer(Side::B, answer.as_bytes()).unwrap();
    assert_eq!(again, told, "the 200 says the same");
    negotiation.commit().unwrap();
    let media = negotiation.media().unwrap();
    assert_eq!(media.legs[0].remote.unwrap().rtp.port(), 4010);
}

#[test]
fn a_caller_may_change_its_key_and_keeps_ours() {
    let mut negotiation = negotiation(SrtpPolicy::Require, SrtpPolicy::Off);
    let random = &mut random();
    let offer = |key: &str| {
        let line = format!("crypto:1 AES_CM_128_HMAC_SHA1_80 inline:{key}");
        sdp("RTP/SAVP", "0", &[&line])
    };
    negotiation
        .offer(Side::A, offer(fixtures::KEY_30).as_bytes(), random)
        .unwrap();
    let first = negotiation
        .answer(Side::B, plain_sdp("0", &[]).as_bytes())
        .unwrap();
    let crypto = |body: &str| {
        let mut lines = body.lines().map(str::to_owned);
        lines.find(|line| line.starts_with("a=crypto")).unwrap()
    };
    let keys = |negotiation: &Negotiation| {
        let media = negotiation.media().unwrap();
        media.legs[0].srtp.clone().unwrap().unprotect
    };
    let before = keys(&negotiation);
    let second = negotiation
        .offer_early(Side::A, offer(fixtures::OTHER_KEY_30).as_bytes(), random)
        .unwrap();
    assert_eq!(crypto(&second), crypto(&first));
    assert_ne!(keys(&negotiation), before);
}

#[test]
fn a_callee_may_move_with_another_key_and_keeps_ours() {
    let mut negotiation = negotiation(SrtpPolicy::Off, SrtpPolicy::Require);
    let random = &mut random();
    let description = |port: u16, tag: u8, key: &str| {
        let line = format!("crypto:{tag} AES_CM_128_HMAC_SHA1_80 inline:{key}");
        sdp("RTP/SAVP", "0", &[&line]).replace("audio 4000", &format!("audio {port}"))
    };
    let offer = negotiation
        .offer(Side::A, plain_sdp("0", &[]).as_bytes(), random)
        .unwrap();
    let moved = description(5002, 7, fixtures::OTHER_KEY_30);
    assert_eq!(
        negotiation.offer_back(Side::B, moved.as_bytes(), random),
        Err(SdpError::OfferPending)
    );
    let answer = description(5000, 1, fixtures::KEY_30);
    let told = negotiation.answer(Side::B, answer.as_bytes()).unwrap();
    let ours = negotiation.media().unwrap().legs[1].srtp.clone().unwrap();

    let said = negotiation
        .offer_back(Side::B, moved.as_bytes(), random)
        .unwrap();
    let key = |body: &str| {
        let line = body.lines().find(|line| line.starts_with("a=crypto"));
        line.unwrap().split("inline:").nth(1).unwrap().to_owned()
    };
    assert!(
        said.contains("a=crypto:7 AES_CM_128_HMAC_SHA1_80"),
        "{said}"
    );
    assert_eq!(key(&said), key(&offer), "our key stays");
    assert_eq!(negotiation.repeat_answer().unwrap(), told);
    negotiation.commit().unwrap();
    let leg = negotiation.media().unwrap().legs[1].clone();
    assert_eq!(leg.remote.unwrap().rtp.port(), 5002);
    let keys = leg.srtp.unwrap();
    assert_eq!(keys.protect, ours.protect);
    assert_ne!(keys.unprotect, ours.unprotect);
}
