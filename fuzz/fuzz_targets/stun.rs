//! Datagrams to an agent that answers checks. The first octet says whether the rest is a whole
//! datagram, or attributes of a check by somebody who knows the password, or does not. Only a check
//! by the password passes, and every response can be read.

#![no_main]

use std::net::SocketAddr;

use libfuzzer_sys::fuzz_target;
use relay_user::stun::{Attribute, BINDING, Builder, Class, Message, Outcome, answer};

const PASSWORD: &[u8] = b"VOkJxbRl1RmTxUk/WvJxBt";
const TRANSACTION: [u8; 12] = *b"twelve octet";

fuzz_target!(|octets: &[u8]| {
    let Some((choice, rest)) = octets.split_first() else {
        return;
    };
    let source: SocketAddr = match choice & 1 {
        0 => ([192, 0, 2, 1], 32853).into(),
        _ => ([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1], 32853).into(),
    };
    let knows = choice & 4 != 0;
    let datagram = match choice & 2 {
        0 => rest.to_vec(),
        _ => check(rest, if knows { PASSWORD } else { b"another" }),
    };
    let ours = |fragment: &[u8]| (fragment == b"ours").then_some(PASSWORD);
    let Ok(answered) = answer(&datagram, source, ours) else {
        return;
    };
    let request = Message::parse(&datagram).expect("what was answered is a message");
    let response = Message::parse(answered.response.octets()).expect("a response is a message");
    assert_eq!(response.transaction(), request.transaction());
    match answered.outcome {
        Outcome::Checked(_) => {
            assert!(request.is_by(PASSWORD) && response.is_by(PASSWORD));
            assert_eq!(response.class(), Class::Success);
            assert!(response.attribute(Attribute::XOR_MAPPED_ADDRESS).is_some());
        }
        Outcome::Refused(_) => {
            assert_eq!(response.class(), Class::Error);
            assert!(response.attribute(Attribute::ERROR_CODE).is_some());
        }
    }
});

/// A check with attributes as they are given: one octet of kind and one of length before each.
fn check(rest: &[u8], password: &[u8]) -> Vec<u8> {
    let mut buffer = vec![0; 8192];
    let mut builder = Builder::new(&mut buffer, BINDING, Class::Request, &TRANSACTION);
    builder.attribute(Attribute::USERNAME, b"ours:theirs");
    let mut rest = rest;
    while let Some(([kind, length], others)) = rest.split_first_chunk() {
        let (value, others) = others.split_at(others.len().min(usize::from(*length)));
        // The upper half is of those that nobody need know.
        let kind = u16::from(kind & 0x7f) | u16::from(kind & 0x80) << 8;
        builder.attribute(kind, value);
        rest = others;
    }
    builder.integrity(password);
    builder.fingerprint();
    match builder.finish() {
        Some(length) => buffer.truncate(length),
        None => buffer.clear(),
    }
    buffer
}
