//! The samples of RFC 5769, and what a lite agent says to whatever else comes.

use std::net::SocketAddr;

use proptest::prelude::*;

use super::{
    Attribute, BINDING, Builder, Class, HEADER, Message, Outcome, Refusal, StunError, answer,
};

const PASSWORD: &[u8] = b"VOkJxbRl1RmTxUk/WvJxBt";
const TRANSACTION: [u8; 12] = [
    0xb7, 0xe7, 0xa7, 0x01, 0xbc, 0x34, 0xd6, 0x86, 0xfa, 0x87, 0xdf, 0xae,
];

/// RFC 5769, section 2.1.
const REQUEST: &str = "000100582112a442b7e7a701bc34d686fa87dfae802200105354554e207465737420636c\
    69656e74002400046e0001ff80290008932ff9b151263b36000600096576746a3a68367659202020000800149aeaa7\
    0cbfd8cb56781ef2b5b2d3f249c1b571a280280004e57a3bcf";
/// Section 2.2.
const IPV4_RESPONSE: &str = "0101003c2112a442b7e7a701bc34d686fa87dfae8022000b7465737420766563746f\
    7220002000080001a147e112a643000800142b91f599fd9e90c38c7489f92af9ba53f06be7d780280004c07d4c96";
/// Section 2.3.
const IPV6_RESPONSE: &str = "010100482112a442b7e7a701bc34d686fa87dfae8022000b7465737420766563746f\
    7220002000140002a1470113a9faa5d3f179bc25f4b5bed2b9d900080014a382954e4be67bf11784c97c8292c275bf\
    e3ed4180280004c8fb0b4c";

fn octets(hexadecimal: &str) -> Vec<u8> {
    let digits = hexadecimal.as_bytes().chunks_exact(2);
    digits
        .map(|pair| {
            let pair = std::str::from_utf8(pair).expect("digits");
            u8::from_str_radix(pair, 16).expect("an octet")
        })
        .collect()
}

fn source() -> SocketAddr {
    "192.0.2.1:32853".parse().expect("an address")
}

/// A check of our ufrag `ours` by fork `theirs`, with further attributes.
fn check(more: &[(u16, &[u8])], password: &[u8]) -> Vec<u8> {
    let mut buffer = vec![0; 512];
    let mut builder = Builder::new(&mut buffer, BINDING, Class::Request, &TRANSACTION);
    builder.attribute(Attribute::USERNAME, b"ours:theirs");
    builder.attribute(Attribute::PRIORITY, &0x6e00_1effu32.to_be_bytes());
    builder.attribute(Attribute::ICE_CONTROLLING, &[7; 8]);
    for (kind, value) in more {
        builder.attribute(*kind, value);
    }
    builder.integrity(password);
    builder.fingerprint();
    let length = builder.finish().expect("room");
    buffer.truncate(length);
    buffer
}

fn ours(fragment: &[u8]) -> Option<&'static [u8]> {
    (fragment == b"ours").then_some(PASSWORD)
}

/// The code of a response, and whether it is by our password.
fn refused(request: &[u8]) -> (Outcome<'_>, u16, bool, Vec<u8>) {
    let answered = answer(request, source(), ours).expect("an answer");
    let response = answered.response.octets().to_vec();
    let message = Message::parse(&response).expect("a message");
    assert_eq!(message.transaction(), &TRANSACTION);
    assert_eq!(message.method(), BINDING);
    assert_eq!(message.class(), Class::Error);
    let code = message.attribute(Attribute::ERROR_CODE).expect("a code");
    let number = u16::from(code.value[2]) * 100 + u16::from(code.value[3]);
    let unknown = message
        .attribute(Attribute::UNKNOWN_ATTRIBUTES)
        .map(|attribute| attribute.value.to_vec());
    (
        answered.outcome,
        number,
        message.is_by(PASSWORD),
        unknown.unwrap_or_default(),
    )
}

#[test]
fn the_sample_request_is_authentic() {
    let request = octets(REQUEST);
    let message = Message::parse(&request).expect("a message");
    assert_eq!(message.class(), Class::Request);
    assert_eq!(message.method(), BINDING);
    assert_eq!(message.transaction(), &TRANSACTION);
    let username = message.attribute(Attribute::USERNAME).expect("a name");
    assert_eq!(username.value, b"evtj:h6vY");
    let priority = message.attribute(Attribute::PRIORITY).expect("a priority");
    assert_eq!(priority.value, 0x6e00_01ffu32.to_be_bytes());
    assert!(message.is_by(PASSWORD) && !message.is_by(b"another"));
    for place in HEADER..request.len() - 8 {
        let mut damaged = request.clone();
        damaged[place] ^= 1;
        assert!(Message::parse(&damaged).is_err(), "octet {place}");
    }
}

#[test]
fn the_sample_responses_are_what_we_write() {
    for (sample, address) in [
        (IPV4_RESPONSE, "192.0.2.1:32853"),
        (
            IPV6_RESPONSE,
            "[2001:db8:1234:5678:11:2233:4455:6677]:32853",
        ),
    ] {
        let sample = octets(sample);
        let message = Message::parse(&sample).expect("a message");
        assert_eq!(message.class(), Class::Success);
        assert!(message.is_by(PASSWORD));
        let mut buffer = [0x20; 128];
        let mut builder = Builder::new(&mut buffer, BINDING, Class::Success, &TRANSACTION);
        // The sample is padded by a space.
        builder.attribute(0x8022, b"test vector ");
        builder.mapped_address(address.parse().expect("an address"));
        let length = builder.finish().expect("room");
        let until = message
            .attribute(Attribute::MESSAGE_INTEGRITY)
            .expect("it is there")
            .offset;
        assert_eq!(length, until);
        assert_eq!(buffer[24..length], sample[24..until]);
    }
}

#[test]
fn a_check_is_answered_with_the_address_that_it_came_from() {
    for (attributes, nominates) in [
        (&[][..], false),
        (&[(Attribute::USE_CANDIDATE, &[][..])], true),
        // Microsoft's: nobody need know it.
        (&[(0x8070, &[0, 0, 0, 3])], false),
    ] {
        let request = check(attributes, PASSWORD);
        let answered = answer(&request, source(), ours).expect("an answer");
        let Outcome::Checked(told) = answered.outcome else {
            panic!("{:?}", answered.outcome);
        };
        assert_eq!((told.own, told.fragment), (&b"ours"[..], &b"theirs"[..]));
        assert_eq!(told.priority, Some(0x6e00_1eff));
        assert_eq!(told.nominates, nominates);
        let message = Message::parse(answered.response.octets()).expect("a message");
        assert_eq!(message.class(), Class::Success);
        assert_eq!(message.transaction(), &TRANSACTION);
        assert!(message.is_by(PASSWORD));
        let mapped = message.attribute(Attribute::XOR_MAPPED_ADDRESS);
        assert_eq!(
            mapped.expect("an address").value,
            octets("0001a147e112a643")
        );
        let kinds: Vec<u16> = message.attributes().map(|one| one.kind).collect();
        assert_eq!(
            kinds,
            [Attribute::XOR_MAPPED_ADDRESS, Attribute::MESSAGE_INTEGRITY]
        );
    }
}

#[test]
fn who_does_not_know_the_password_is_refused_unsigned() {
    let wrong = check(&[], b"wrong");
    let (outcome, code, signed, _) = refused(&wrong);
    assert_eq!(outcome, Outcome::Refused(Refusal::Unauthenticated));
    assert_eq!((code, signed), (401, false));

    for name in [&b"others:theirs"[..], b"ours", b"", b":", b"ourstheirs:"] {
        let mut buffer = [0; 128];
        let mut builder = Builder::new(&mut buffer, BINDING, Class::Request, &TRANSACTION);
        builder.attribute(Attribute::USERNAME, name);
        builder.integrity(PASSWORD);
        let length = builder.finish().expect("room");
        assert_eq!(refused(&buffer[..length]).1, 401, "{name:?}");
    }
}

#[test]
fn a_request_without_a_name_or_a_seal_is_bad() {
    for with_name in [false, true] {
        let mut buffer = [0; 128];
        let mut builder = Builder::new(&mut buffer, BINDING, Class::Request, &TRANSACTION);
        if with_name {
            builder.attribute(Attribute::USERNAME, b"ours:theirs");
        } else {
            builder.integrity(PASSWORD);
            // Nobody vouches for what stands behind the seal.
            builder.attribute(Attribute::USERNAME, b"ours:theirs");
        }
        builder.fingerprint();
        let length = builder.finish().expect("room");
        let (outcome, code, signed, _) = refused(&buffer[..length]);
        assert_eq!(outcome, Outcome::Refused(Refusal::BadRequest));
        assert_eq!((code, signed), (400, false));
    }
}

#[test]
fn what_must_be_known_is_named_and_the_list_is_bounded() {
    let request = check(
        &[(0x0030, &[1]), (0x8070, &[]), (0x7fff, &[2; 5])],
        PASSWORD,
    );
    let (outcome, code, signed, unknown) = refused(&request);
    assert_eq!(outcome, Outcome::Refused(Refusal::UnknownAttribute));
    assert_eq!((code, signed), (420, true));
    assert_eq!(unknown, [0x00, 0x30, 0x7f, 0xff]);

    let many = [(0x0030, &[][..]); 60];
    assert_eq!(refused(&check(&many, PASSWORD)).3.len(), 16);
    // Whom nobody knows is not told what we know.
    assert_eq!(refused(&check(&many, b"wrong")).1, 401);
}

#[test]
fn two_controlled_agents_would_wait_for_each_other() {
    let request = check(&[(Attribute::ICE_CONTROLLED, &[0; 8])], PASSWORD);
    let (outcome, code, signed, _) = refused(&request);
    assert_eq!(outcome, Outcome::Refused(Refusal::RoleConflict));
    assert_eq!((code, signed), (487, true));
}

#[test]
fn what_asks_for_nothing_gets_no_answer() {
    for (method, class) in [
        (BINDING, Class::Indication),
        (BINDING, Class::Success),
        (BINDING, Class::Error),
        (0x003, Class::Request),
        (0xfff, Class::Request),
    ] {
        let mut buffer = [0; 128];
        let builder = Builder::new(&mut buffer, method, class, &TRANSACTION);
        let length = builder.finish().expect("room");
        let message = Message::parse(&buffer[..length]).expect("a message");
        assert_eq!((message.method(), message.class()), (method, class));
        let answered = answer(&buffer[..length], source(), ours);
        assert_eq!(answered.err(), Some(StunError::NotRequest));
    }
}

#[test]
fn what_does_not_fit_is_not_written() {
    let mut buffer = [0; 43];
    let mut builder = Builder::new(&mut buffer, BINDING, Class::Request, &TRANSACTION);
    builder.integrity(PASSWORD);
    assert_eq!(builder.finish(), None);
    let builder = Builder::new(&mut buffer[..19], BINDING, Class::Request, &TRANSACTION);
    assert_eq!(builder.finish(), None);
}

#[test]
fn a_fingerprint_is_right_and_last_or_the_message_is_none() {
    let mut request = check(&[], PASSWORD);
    let end = request.len();
    request[end - 1] ^= 1;
    assert_eq!(Message::parse(&request).err(), Some(StunError::Fingerprint));
    request[end - 1] ^= 1;
    request.extend([0x80, 0x22, 0, 0]);
    request[3] += 4;
    assert_eq!(Message::parse(&request).err(), Some(StunError::Fingerprint));
}

proptest! {
    #[test]
    fn whatever_comes_is_answered_or_refused(octets in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = answer(&octets, source(), ours);
    }

    /// Lengths that contradict each other, in what is otherwise a check.
    #[test]
    fn a_damaged_check_never_passes(place in 0usize..92, change in 1u8..) {
        let mut request = check(&[(Attribute::USE_CANDIDATE, &[])], PASSWORD);
        let place = place % (request.len() - 8);
        request[place] ^= change;
        // The fingerprint is no secret, so it protects nothing.
        let end = request.len() - 8;
        let fingerprint = super::integrity::fingerprint(&request[..end]);
        request[end + 4..].copy_from_slice(&fingerprint.to_be_bytes());
        let answered = answer(&request, source(), ours);
        let passed = matches!(answered.map(|answered| answered.outcome), Ok(Outcome::Checked(_)));
        prop_assert!(!passed);
    }
}
