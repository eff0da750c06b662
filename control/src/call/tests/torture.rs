//! The messages of RFC 4475, sent to us as a trunk would: each is answered as its section asks.

use bytes::Bytes;

use super::bench::*;
use crate::{
    call::Output,
    sip::{Flow, HeaderName, Limits, Message, parse_shared, torture_cases::CASES},
};

/// What answers each, 0 for nothing. As we are a user agent towards both sides, what a section
/// asks of a registrar or of a proxy becomes 405 or a call.
const ANSWERS: &[(&str, &[u16])] = &[
    // To has a tag: it belongs to a dialog, and there is none.
    ("wsinv", &[481]),
    ("intmeth", &[501]),
    // Not a description that a call could be made of; the URI and the headers are fine.
    ("esc01", &[400, 488]),
    ("escnull", &[405]),
    ("esc02", &[501]),
    ("lwsdisp", &[200]),
    ("dblreq", &[405]),
    ("semiuri", &[200]),
    ("transports", &[200]),
    ("unreason", &[0]),
    ("noreason", &[0]),
    ("unkscm", &[416]),
    ("unksm2", &[416]),
    ("zeromf", &[200]),
    ("mpart01", &[405]),
    // It becomes a call.
    ("baddate", &[100]),
    // Matched as RFC 2543 has it.
    ("badbranch", &[200]),
    // It has no Contact, so that it cannot become a call.
    ("inv2543", &[400]),
    ("novelsc", &[416]),
    ("bext01", &[420]),
    ("invut", &[415]),
    ("regaut01", &[405]),
    ("bcast", &[0]),
    ("cparam01", &[405]),
    ("cparam02", &[405]),
    ("regescrt", &[405]),
    ("sdp01", &[406]),
];

fn everything_routed() -> Bench {
    Bench::with(&SETTINGS.replace("number = \"^\\\\+1555\"\n", ""))
}

/// The last status that a message is answered with, 0 for none.
fn answer(bench: &mut Bench, text: &str) -> Option<(u16, Bytes)> {
    let flow = Flow::udp(address(LISTEN_CARRIER), address(CARRIER));
    let whole = Bytes::from(text.replace('\n', "\r\n"));
    bench.core.receive(bench.now, &flow, &whole);
    let mut last = None;
    while let Some(output) = bench.core.poll() {
        let Output::Transmit { target, bytes } = output else {
            continue;
        };
        if bytes.starts_with(b"SIP/2.0 ") {
            assert_eq!(target.local, address(LISTEN_CARRIER));
            let status = std::str::from_utf8(&bytes[8..11]).unwrap().parse().unwrap();
            last = Some((status, bytes));
        }
    }
    last
}

#[test]
fn each_message_of_rfc_4475_is_answered_as_its_section_asks() {
    for case in CASES {
        let mut bench = everything_routed();
        let answered = answer(&mut bench, case.text).map_or(0, |(status, _)| status);
        match case.answer {
            Some(status) => assert_eq!(answered, status, "{}", case.name),
            None => {
                let (_, statuses) = ANSWERS
                    .iter()
                    .find(|(name, _)| *name == case.name)
                    .unwrap_or_else(|| panic!("{} is not in the table", case.name));
                assert!(statuses.contains(&answered), "{}: {answered}", case.name);
            }
        }
        if answered != 100 {
            bench.finished();
        }
    }
    let good = CASES.iter().filter(|case| case.answer.is_none()).count();
    assert_eq!(good, ANSWERS.len(), "every name of the table is a message");
}

fn said(name: &str) -> Message {
    let case = CASES.iter().find(|case| case.name == name).unwrap();
    let (_, bytes) = answer(&mut everything_routed(), case.text).unwrap();
    parse_shared(&bytes, &Limits::default()).unwrap()
}

#[test]
fn refusals_say_what_their_sections_want_said() {
    let unsupported = said("bext01");
    let options: Vec<Bytes> = unsupported
        .headers()
        .elements(HeaderName::Unsupported)
        .collect();
    assert_eq!(
        options,
        ["nothingSupportsThis", "nothingSupportsThisEither"]
    );
    let accepted = said("invut");
    assert!(
        accepted
            .headers()
            .has_token(HeaderName::Accept, "application/sdp")
    );
}

#[test]
fn the_call_of_a_very_long_request_is_answered() {
    let long = "a".repeat(1_500);
    let text = format!(
        "INVITE sip:user@example.com SIP/2.0\n\
         To: \"I have a user name of extreme {long}\" <sip:user@example.com:6000;unknownparam1=very{long}>\n\
         F: sip:{long}@example.net;tag=12{long}424;unknownheaderparamname{long}=unknowheaderparamvalue{long}\n\
         Call-ID: longreq.one{long}\nCSeq: 3882340 INVITE\n\
         Unknown-{long}-Name: unknown-{long}-value; unknown-{long}-parameter-name = unknown-{long}\n\
         Via: SIP/2.0/TCP sip33.example.com;branch=z9hG4bK-longreq\n\
         V: SIP/2.0/TCP sip32.example.com;unknown={long};branch=z9hG4bKik{long}\n\
         Max-Forwards: 70\nContact: <sip:amazinglylongcallernamewithnospace{long}@host5.example.net>\nl: 0\n\n"
    );
    let (status, _) = answer(&mut everything_routed(), &text).unwrap();
    assert_eq!(status, 100, "it becomes a call");
}

#[test]
fn each_420_has_a_tag_of_its_own() {
    let tag = |message: Message| message.headers().to().unwrap().tag().unwrap();
    let mut bench = everything_routed();
    let case = CASES.iter().find(|case| case.name == "bext01").unwrap();
    let mut tags = std::collections::HashSet::new();
    for branch in 0..5 {
        let text = case
            .text
            .replace("z9hG4bK293423", &format!("z9hG4bK{branch}"));
        let (_, bytes) = answer(&mut bench, &text).unwrap();
        let tag = tag(parse_shared(&bytes, &Limits::default()).unwrap());
        assert!(tag.len() >= 8 && tags.insert(tag), "RFC 3261 §19.3");
    }
}
