//! Hold and resume in all their forms (RFC 3264, sections 5.1, 6.1 and 8.4).

use super::{
    super::{Negotiation, Side, SrtpPolicy},
    LOCAL_A, LOCAL_B, plain, plain_sdp, policy, random,
    reading::{Reading, assert_answers},
};

fn connected() -> Negotiation {
    let mut call = plain();
    exchange(&mut call, Side::A, "sendrecv", "sendrecv");
    call
}

/// Directions as (offered to the other side, answered to the offerer), and which streams flow.
fn exchange(
    call: &mut Negotiation,
    from: Side,
    offered: &str,
    answered: &str,
) -> (String, String, [bool; 2]) {
    let offer = plain_sdp("0", &[offered]);
    let ours = call.offer(from, offer.as_bytes(), &mut random()).unwrap();
    let reply = plain_sdp("0", &[answered]);
    let answer = call.answer(from.other(), reply.as_bytes()).unwrap();
    assert_answers(&offer, &answer);
    call.commit().unwrap();
    let [ab, ba] = call.media().unwrap().streams;
    (
        Reading::of(&ours).audio().direction().to_owned(),
        Reading::of(&answer).audio().direction().to_owned(),
        [ab.active, ba.active],
    )
}

#[test]
fn directions_pass_from_side_to_side() {
    for (from, offered, answered, flow) in [
        (Side::A, "sendonly", "recvonly", [true, false]),
        (Side::A, "inactive", "inactive", [false, false]),
        (Side::A, "recvonly", "sendonly", [false, true]),
        (Side::B, "sendonly", "recvonly", [false, true]),
        (Side::B, "inactive", "inactive", [false, false]),
        (Side::B, "recvonly", "sendonly", [true, false]),
    ] {
        let mut call = connected();
        let (to_other, to_offerer, active) = exchange(&mut call, from, offered, answered);
        assert_eq!(
            (to_other.as_str(), to_offerer.as_str()),
            (offered, answered)
        );
        assert_eq!(active, flow, "{from:?} {offered}");
        let (.., resumed) = exchange(&mut call, from, "sendrecv", "sendrecv");
        assert_eq!(resumed, [true, true]);
    }
}

#[test]
fn an_answer_that_claims_too_much_is_cut_to_the_offer() {
    let mut call = connected();
    let (_, answer, active) = exchange(&mut call, Side::A, "sendonly", "sendrecv");
    assert_eq!((answer.as_str(), active), ("recvonly", [true, false]));
    let (_, answer, active) = exchange(&mut call, Side::A, "inactive", "sendrecv");
    assert_eq!((answer.as_str(), active), ("inactive", [false, false]));
}

#[test]
fn both_sides_may_hold() {
    let mut call = connected();
    let (_, _, active) = exchange(&mut call, Side::A, "sendonly", "inactive");
    assert_eq!(active, [false, false]);
    // A resumes, B still holds.
    let (_, answer, active) = exchange(&mut call, Side::A, "sendrecv", "sendonly");
    assert_eq!((answer.as_str(), active), ("sendonly", [false, true]));
}

#[test]
fn an_address_of_zeros_is_hold_and_is_never_passed_on() {
    let mut call = connected();
    let remote = call.media().unwrap().legs[0].remote;
    let offer = plain_sdp("0", &["sendrecv"]).replace("c=IN IP4 198.51.100.2", "c=IN IP4 0.0.0.0");
    let ours = call
        .offer(Side::A, offer.as_bytes(), &mut random())
        .unwrap();
    assert_eq!(Reading::of(&ours).audio().direction(), "sendonly");
    assert!(!ours.contains("0.0.0.0"));
    let answer = call
        .answer(Side::B, plain_sdp("0", &["recvonly"]).as_bytes())
        .unwrap();
    assert_answers(&offer, &answer);
    assert!(!answer.contains("0.0.0.0"));
    call.commit().unwrap();
    let media = call.media().unwrap();
    assert!(media.streams[0].active && !media.streams[1].active);
    assert_eq!(
        media.legs[0].remote, remote,
        "where it was is not forgotten"
    );
    let (.., active) = exchange(&mut call, Side::A, "sendrecv", "sendrecv");
    assert_eq!(active, [true, true]);
}

#[test]
fn the_address_of_zeros_counts_in_an_answer_and_for_ipv6() {
    let mut call = plain();
    call.offer(Side::A, plain_sdp("0", &[]).as_bytes(), &mut random())
        .unwrap();
    let answer = plain_sdp("0", &[]).replace("c=IN IP4 198.51.100.2", "c=IN IP6 ::");
    let ours = call.answer(Side::B, answer.as_bytes()).unwrap();
    assert_eq!(Reading::of(&ours).audio().direction(), "sendonly");
    let media = call.media().unwrap();
    assert_eq!(media.legs[1].remote, None);
    assert!(!media.streams[0].active && media.streams[1].active);
}

#[test]
fn a_direction_for_the_session_counts_where_the_line_has_none() {
    let mut call = connected();
    let offer = plain_sdp("0", &[]).replace("t=0 0\r\n", "t=0 0\r\na=sendonly\r\n");
    let ours = call
        .offer(Side::A, offer.as_bytes(), &mut random())
        .unwrap();
    assert_eq!(Reading::of(&ours).audio().direction(), "sendonly");
}

#[test]
fn a_leg_that_knows_only_inactive_is_offered_that() {
    let mut teams = policy(LOCAL_B, SrtpPolicy::Off);
    teams.hold = crate::config::Hold::Inactive;
    let mut call = Negotiation::new([policy(LOCAL_A, SrtpPolicy::Off), teams], &mut random());
    exchange(&mut call, Side::A, "sendrecv", "sendrecv");
    let (offered, answered, active) = exchange(&mut call, Side::A, "sendonly", "inactive");
    assert_eq!(
        (offered.as_str(), answered.as_str()),
        ("inactive", "inactive")
    );
    assert_eq!(active, [false, false]);
    // It may not take back what it was not offered.
    let (_, answered, active) = exchange(&mut call, Side::A, "sendonly", "recvonly");
    assert_eq!((answered.as_str(), active), ("inactive", [false, false]));
    // Holding the other way round nothing is mapped: A understands it.
    let (offered, answered, _) = exchange(&mut call, Side::B, "sendonly", "recvonly");
    assert_eq!(
        (offered.as_str(), answered.as_str()),
        ("sendonly", "recvonly")
    );
}
