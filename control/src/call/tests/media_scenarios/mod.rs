//! What two user agents see of each other's media through a call: hold, codecs, SRTP, refusals.

mod peers;

use peers::{Scenario, Who, scenario};

const OFF: &str = "";
const KEY: &str = "WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz";

/// One audio line of an agent whose media is at `address`:4000.
fn sdp(address: &str, transport: &str, formats: &str, attributes: &[&str]) -> String {
    let mut body = format!(
        "v=0\r\no=- 7 7 IN IP4 {address}\r\ns=-\r\nc=IN IP4 {address}\r\nt=0 0\r\n\
         m=audio 4000 {transport} {formats}\r\n"
    );
    for attribute in attributes {
        body.push_str(&format!("a={attribute}\r\n"));
    }
    body
}

fn caller(formats: &str, attributes: &[&str]) -> String {
    sdp("198.51.100.9", "RTP/AVP", formats, attributes)
}

fn callee(formats: &str, attributes: &[&str]) -> String {
    sdp("203.0.113.9", "RTP/AVP", formats, attributes)
}

fn of(who: Who, formats: &str, attributes: &[&str]) -> String {
    match who {
        Who::Caller => caller(formats, attributes),
        Who::Callee => callee(formats, attributes),
    }
}

fn has(body: &str, attribute: &str) -> bool {
    body.lines().any(|line| line == format!("a={attribute}"))
}

fn audio_line(body: &str) -> &str {
    body.lines()
        .find(|line| line.starts_with("m=audio"))
        .unwrap_or_else(|| panic!("no audio in {body:?}"))
}

fn connected() -> Scenario {
    let mut call = scenario(OFF, OFF);
    call.connect(&caller("0 8", &[]), &callee("0", &[]));
    assert_eq!(call.flows(), [true, true]);
    call
}

#[test]
fn each_side_sees_only_our_address() {
    let mut call = scenario(OFF, OFF);
    let (offer, answer) = call.connect(
        &caller("8 0 101", &["rtpmap:101 telephone-event/8000", "ptime:20"]),
        &callee("0 96", &["rtpmap:96 telephone-event/8000", "ptime:30"]),
    );
    assert!(offer.contains("c=IN IP4 203.0.113.1\r\n") && !offer.contains("198.51.100"));
    assert!(answer.contains("c=IN IP4 198.51.100.1\r\n") && !answer.contains("203.0.113"));
    assert!(audio_line(&offer).ends_with(" RTP/AVP 8 0 101"));
    assert!(audio_line(&answer).ends_with(" RTP/AVP 0 101"));
    assert!(has(&offer, "ptime:20") && has(&answer, "ptime:30"));
    let media = call.media();
    let remotes = media.legs.map(|leg| leg.remote.unwrap().rtp.to_string());
    assert_eq!(remotes, ["198.51.100.9:4000", "203.0.113.9:4000"]);
    let [out, back] = media.streams;
    assert_eq!(out.payload_types, [(0, 0), (101, 96)]);
    assert_eq!(back.payload_types, [(0, 0), (101, 101), (96, 101)]);
    call.hang_up(Who::Caller);
}

#[test]
fn hold_and_resume_from_either_side_in_every_form() {
    for (who, flow) in [(Who::Caller, [true, false]), (Who::Callee, [false, true])] {
        for (held, answered, flows) in [
            ("sendonly", "recvonly", flow),
            ("inactive", "inactive", [false, false]),
            ("recvonly", "sendonly", [flow[1], flow[0]]),
        ] {
            let mut call = connected();
            let (offer, answer) = call.renegotiate(
                who,
                &of(who, "0", &[held]),
                &of(who.other(), "0", &[answered]),
            );
            assert!(has(&offer, held), "{offer}");
            assert!(has(&answer, answered), "{answer}");
            assert_eq!(call.flows(), flows, "{who:?} {held}");
            assert!(call.snapshot().held);

            let (offer, answer) =
                call.renegotiate(who, &of(who, "0", &[]), &of(who.other(), "0", &[]));
            assert!(has(&offer, "sendrecv") && has(&answer, "sendrecv"));
            assert_eq!(call.flows(), [true, true]);
            assert!(!call.snapshot().held);
            call.hang_up(who.other());
        }
    }
}

#[test]
fn hold_by_an_address_of_zeros_becomes_a_direction() {
    let mut call = connected();
    let zeros = caller("0", &[]).replace("c=IN IP4 198.51.100.9", "c=IN IP4 0.0.0.0");
    let (offer, answer) = call.renegotiate(Who::Caller, &zeros, &callee("0", &["recvonly"]));
    assert!(has(&offer, "sendonly") && !offer.contains("0.0.0.0"));
    assert!(has(&answer, "recvonly"));
    assert_eq!(call.flows(), [true, false]);
    call.hang_up(Who::Callee);
}

#[test]
fn a_trunk_that_knows_only_inactive_is_offered_that() {
    let mut call = scenario(OFF, "hold = \"inactive\"");
    call.connect(&caller("0", &[]), &callee("0", &[]));
    let (offer, answer) = call.renegotiate(
        Who::Caller,
        &caller("0", &["sendonly"]),
        &callee("0", &["inactive"]),
    );
    assert!(has(&offer, "inactive") && has(&answer, "inactive"));
    assert_eq!(call.flows(), [false, false]);
    call.hang_up(Who::Caller);
}

#[test]
fn the_held_side_may_hang_up_and_a_held_call_may_change_hands() {
    let mut call = connected();
    call.renegotiate(
        Who::Caller,
        &caller("0", &["sendonly"]),
        &callee("0", &["recvonly"]),
    );
    // The other side holds as well, then each resumes.
    call.renegotiate(
        Who::Callee,
        &callee("0", &["inactive"]),
        &caller("0", &["inactive"]),
    );
    assert_eq!(call.flows(), [false, false]);
    call.renegotiate(Who::Caller, &caller("0", &[]), &callee("0", &[]));
    assert_eq!(call.flows(), [true, true]);
    call.hang_up(Who::Callee);
}

#[test]
fn a_codec_changes_in_mid_call() {
    let mut call = connected();
    let ports = call.media().legs.map(|leg| leg.port);
    let (offer, answer) = call.renegotiate(Who::Callee, &callee("8", &[]), &caller("8", &[]));
    assert!(audio_line(&offer).ends_with(" RTP/AVP 8"));
    assert!(audio_line(&answer).ends_with(" RTP/AVP 8"));
    let media = call.media();
    assert_eq!(media.streams[0].payload_types, [(8, 8)]);
    assert_eq!(media.legs.map(|leg| leg.port), ports, "the ports stay");
    assert!(call.snapshot().codec.unwrap().starts_with("PCMA"));
    call.hang_up(Who::Caller);
}

#[test]
fn a_refused_re_invite_leaves_the_call_as_it_was() {
    let mut call = connected();
    let before = call.media();
    call.refused_by_other(Who::Caller, &caller("8", &["sendonly"]), 488);
    assert_eq!(call.media(), before);
    // One that we refuse ourselves never reaches the other side.
    for bad in [
        caller(
            "18 101",
            &["rtpmap:18 unknown/0", "rtpmap:101 telephone-event/8000"],
        )
        .replace("m=audio 4000 RTP/AVP 18", "m=audio 4000 RTP/AVP 96"),
        caller("0", &[]).replace("m=audio 4000", "m=audio 0"),
        caller("0", &[]).replace("RTP/AVP", "RTP/SAVP"),
    ] {
        call.invite(Who::Caller, &bad);
        call.hear_status(Who::Caller, 488);
        call.hears_nothing(Who::Callee);
        assert_eq!(call.media(), before);
    }
    call.invite(Who::Caller, "this is not sdp");
    call.hear_status(Who::Caller, 400);
    // And the next good one is carried.
    call.renegotiate(Who::Caller, &caller("8", &[]), &callee("8", &[]));
    call.hang_up(Who::Callee);
}

#[test]
fn an_offer_may_come_in_the_200() {
    let mut call = scenario(OFF, OFF);
    call.call("");
    let invite = call.hear_request(Who::Callee, "INVITE");
    assert_eq!(invite.body, "");
    call.respond(Who::Callee, 200, &callee("0 8", &[]));
    let accepted = call.hear_status(Who::Caller, 200);
    assert!(audio_line(&accepted.body).ends_with(" RTP/AVP 0 8"));
    call.acknowledge(Who::Caller, &accepted, &caller("8", &[]));
    let ack = call.hear_request(Who::Callee, "ACK");
    assert!(audio_line(&ack.body).ends_with(" RTP/AVP 8"));
    assert!(ack.body.contains("c=IN IP4 203.0.113.1\r\n"));
    assert_eq!(call.flows(), [true, true]);
    assert_eq!(call.media().streams[1].payload_types, [(8, 8)]);
    call.hang_up(Who::Callee);
}

#[test]
fn a_re_invite_without_an_offer_asks_the_other_side_for_one() {
    let mut call = connected();
    call.invite(Who::Caller, "");
    let invite = call.hear_request(Who::Callee, "INVITE");
    assert_eq!(invite.body, "");
    call.respond(Who::Callee, 200, &callee("8 0", &[]));
    let accepted = call.hear_status(Who::Caller, 200);
    call.acknowledge(Who::Caller, &accepted, &caller("8", &[]));
    let ack = call.hear_request(Who::Callee, "ACK");
    assert!(audio_line(&ack.body).ends_with(" RTP/AVP 8"));
    assert_eq!(call.media().streams[0].payload_types, [(8, 8)]);
    call.hang_up(Who::Caller);
}

#[test]
fn early_media_flows_before_the_answer_and_the_answer_replaces_it() {
    let mut call = scenario(OFF, OFF);
    call.call(&caller("0 8", &[]));
    call.hear_request(Who::Callee, "INVITE");
    call.respond(Who::Callee, 183, &callee("0", &[]));
    let early = call.hear_status(Who::Caller, 183);
    assert!(audio_line(&early.body).ends_with(" RTP/AVP 0"));
    assert_eq!(call.flows(), [true, true]);
    call.respond(Who::Callee, 200, &callee("8", &[]));
    let accepted = call.hear_status(Who::Caller, 200);
    assert!(audio_line(&accepted.body).ends_with(" RTP/AVP 8"));
    call.acknowledge(Who::Caller, &accepted, "");
    call.hear_request(Who::Callee, "ACK");
    assert_eq!(call.media().streams[0].payload_types, [(8, 8)]);
    call.hang_up(Who::Caller);
}

#[test]
fn one_side_srtp_the_other_plain() {
    let secured = |address| {
        sdp(
            address,
            "RTP/SAVP",
            "0",
            &[&format!(
                "crypto:1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}|2^31"
            )],
        )
    };
    // Towards the side with SRTP.
    let mut call = scenario(OFF, "srtp = \"require\"");
    let (offer, answer) = call.connect(&caller("0", &[]), &secured("203.0.113.9"));
    assert!(audio_line(&offer).contains(" RTP/SAVP "));
    assert!(offer.contains("a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:"));
    assert!(audio_line(&answer).contains(" RTP/AVP ") && !answer.contains("crypto"));
    let keys = call.media().legs.map(|leg| leg.srtp);
    assert!(keys[0].is_none());
    let before = keys[1].clone().unwrap();
    // A hold does not change our key.
    let (offer, _) = call.renegotiate(
        Who::Caller,
        &caller("0", &["sendonly"]),
        &format!("{}a=recvonly\r\n", secured("203.0.113.9")),
    );
    assert!(audio_line(&offer).contains(" RTP/SAVP ") && has(&offer, "sendonly"));
    assert_eq!(call.media().legs[1].srtp, Some(before));
    call.hang_up(Who::Callee);

    // From the side with SRTP.
    let mut call = scenario("srtp = \"require\"", OFF);
    let (offer, answer) = call.connect(&secured("198.51.100.9"), &callee("0", &[]));
    assert!(audio_line(&offer).contains(" RTP/AVP ") && !offer.contains("crypto"));
    assert!(answer.contains("a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:"));
    assert!(call.media().legs[0].srtp.is_some());
    call.hang_up(Who::Caller);
}

#[test]
fn an_offer_that_cannot_be_served_is_refused_and_leaves_nothing() {
    let plain_to_secured = ("srtp = \"require\"", caller("0", &[]), 488);
    let secured_to_plain = (OFF, caller("0", &[]).replace("RTP/AVP", "RTP/SAVP"), 488);
    let unlisted = ("codecs = [\"PCMA\"]", caller("0", &[]), 488);
    let video = (OFF, caller("0", &[]).replace("m=audio", "m=video"), 488);
    let damaged = (OFF, "v=1\r\n".to_owned(), 400);
    for (trunk, offer, status) in [plain_to_secured, secured_to_plain, unlisted, video, damaged] {
        let mut call = scenario(trunk, OFF);
        call.call(&offer);
        let refusal = call.hear_status(Who::Caller, status);
        if status == 488 {
            assert!(refusal.header("warning").starts_with("30"), "{refusal:?}");
        }
        call.hears_nothing(Who::Callee);
        assert!(call.has_no_call());
        assert_eq!(call.reserved_ports(), 0);
    }
}

#[test]
fn a_callee_that_refuses_the_codecs_refuses_the_call() {
    let mut call = scenario(OFF, OFF);
    call.call(&caller("18", &[]));
    call.hear_request(Who::Callee, "INVITE");
    call.respond(Who::Callee, 488, "");
    call.hear_request(Who::Callee, "ACK");
    call.hear_status(Who::Caller, 488);
    assert_eq!(call.reserved_ports(), 0);
}

#[test]
fn an_answer_that_cannot_be_used_ends_the_call_on_both_sides() {
    for (answer, status) in [
        (callee("8", &[]), 488),
        (callee("0", &[]).replace("m=audio 4000", "m=audio 0"), 488),
        (callee("0", &[]).replace("RTP/AVP", "RTP/SAVP"), 488),
        // The caller's request was not bad.
        ("nonsense".to_owned(), 502),
    ] {
        let mut call = scenario(OFF, OFF);
        call.call(&caller("0", &[]));
        call.hear_request(Who::Callee, "INVITE");
        call.respond(Who::Callee, 200, &answer);
        // The callee has answered: it is acknowledged and hung up on.
        call.hear_request(Who::Callee, "ACK");
        call.hear_request(Who::Callee, "BYE");
        call.hear_status(Who::Caller, status);
        assert_eq!(call.reserved_ports(), 0);

        // In mid-call the sides no longer agree: it ends on both.
        let mut call = connected();
        call.invite(Who::Caller, &caller("0", &[]));
        call.hear_request(Who::Callee, "INVITE");
        call.respond(Who::Callee, 200, &answer);
        call.hear_request(Who::Callee, "ACK");
        call.hear_request(Who::Callee, "BYE");
        call.hear_status(Who::Caller, status);
        call.hear_request(Who::Caller, "BYE");

        // As an offer in a 200.
        let mut call = scenario(OFF, "codecs = [\"PCMU\"]");
        call.call("");
        call.hear_request(Who::Callee, "INVITE");
        call.respond(Who::Callee, 200, &answer);
        call.hear_request(Who::Callee, "ACK");
        call.hear_request(Who::Callee, "BYE");
        call.hear_status(Who::Caller, status);
        assert_eq!(call.reserved_ports(), 0);
    }
}

#[test]
fn an_ack_without_the_answer_ends_the_call_on_both_sides() {
    let mut call = scenario(OFF, OFF);
    call.call("");
    call.hear_request(Who::Callee, "INVITE");
    call.respond(Who::Callee, 200, &callee("0", &[]));
    let accepted = call.hear_status(Who::Caller, 200);
    call.acknowledge(Who::Caller, &accepted, "");
    call.hear_request(Who::Callee, "ACK");
    call.hear_request(Who::Callee, "BYE");
    call.hear_request(Who::Caller, "BYE");
}

#[test]
fn a_trunk_of_another_codec_list_changes_what_is_offered() {
    let mut call = scenario(OFF, "codecs = [\"PCMA\"]");
    let events = ["rtpmap:101 telephone-event/8000"];
    let (offer, answer) = call.connect(&caller("0 8 101", &events), &callee("8 101", &events));
    assert!(audio_line(&offer).ends_with(" RTP/AVP 8 101"));
    assert!(audio_line(&answer).ends_with(" RTP/AVP 8 101"));
    call.hang_up(Who::Caller);
}

#[test]
fn a_new_key_in_a_re_invite_changes_theirs_and_not_ours() {
    let secured = |key| {
        sdp(
            "203.0.113.9",
            "RTP/SAVP",
            "0",
            &[&format!(
                "crypto:1 AES_CM_128_HMAC_SHA1_80 inline:{key}|2^31"
            )],
        )
    };
    let mut call = scenario(OFF, "srtp = \"require\"");
    let (offer, _) = call.connect(&caller("0", &[]), &secured(KEY));
    let ours = |body: &str| {
        let key = body.split("AES_CM_128_HMAC_SHA1_80 inline:").nth(1);
        key.unwrap().split('|').next().unwrap().to_owned()
    };
    let before = call.media().legs[1].srtp.clone().unwrap();
    let new = "PS1uQCVeeCFCanVmcjkpPywjNWhcYD0mXXtxaVBR";
    let (_, answer) = call.renegotiate(Who::Callee, &secured(new), &caller("0", &[]));
    assert_eq!(ours(&offer), ours(&answer));
    let after = call.media().legs[1].srtp.clone().unwrap();
    assert_eq!(after.protect, before.protect);
    assert_ne!(after.unprotect, before.unprotect);
    assert_eq!(call.media().legs[1].negotiation, 2);
    call.hang_up(Who::Callee);
}

#[test]
fn offered_srtp_is_used_by_those_who_have_it() {
    for (key, encrypted) in [
        (None, false),
        (
            Some(format!("crypto:1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}")),
            true,
        ),
    ] {
        let mut call = scenario(OFF, "srtp = \"offer\"");
        let attributes: Vec<&str> = key.iter().map(String::as_str).collect();
        let (offer, _) = call.connect(&caller("0", &[]), &callee("0", &attributes));
        assert!(audio_line(&offer).contains(" RTP/AVP ") && offer.contains("a=crypto:1 "));
        assert_eq!(call.media().legs[1].srtp.is_some(), encrypted);
        // What was agreed stays agreed over a hold.
        let held: Vec<&str> = attributes.iter().copied().chain(["recvonly"]).collect();
        let (offer, _) = call.renegotiate(
            Who::Caller,
            &caller("0", &["sendonly"]),
            &callee("0", &held),
        );
        assert_eq!(offer.contains("a=crypto"), encrypted);
        assert_eq!(call.media().legs[1].srtp.is_some(), encrypted);
        call.hang_up(Who::Caller);
    }
}

#[test]
fn an_address_family_that_the_interface_does_not_have_is_refused() {
    let mut call = scenario(OFF, OFF);
    let offer = caller("0", &[]).replace("c=IN IP4 198.51.100.9", "c=IN IP6 2001:db8::9");
    call.call(&offer);
    let refusal = call.hear_status(Who::Caller, 488);
    assert!(refusal.header("warning").starts_with("300 "), "{refusal:?}");
    call.hears_nothing(Who::Callee);
    assert_eq!(call.reserved_ports(), 0);
}
