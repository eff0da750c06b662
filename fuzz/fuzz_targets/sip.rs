//! The SIP parser, the stream framer and the typed views. What was accepted serialises to something
//! that is accepted again and says the same; a stream cut anywhere gives the messages of the whole.

#![no_main]

use bytes::Bytes;
use control::sip::{Frame, HeaderName, Headers, Limits, Message, StreamFramer, parse};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|octets: &[u8]| {
    if let Ok(message) = parse(octets, &Limits::default()) {
        read(headers(&message));
        let written = message.to_bytes();
        let again = parse(&written, &Limits::default());
        let again = again.expect("what was accepted and written is accepted again");
        assert_eq!(again.to_bytes(), written);
    }
    let (cut, stream) = octets.split_first().unwrap_or((&0, &[]));
    let cut = usize::from(*cut).min(stream.len());
    assert_eq!(
        cut_into_messages(&[stream]),
        cut_into_messages(&[&stream[..cut], &stream[cut..]])
    );
});

fn headers(message: &Message) -> &Headers {
    match message {
        Message::Request(request) => &request.headers,
        Message::Response(response) => &response.headers,
    }
}

/// Asks for everything that the core asks for.
fn read(headers: &Headers) {
    let _ = (headers.via(), headers.vias(), headers.cseq());
    let _ = (headers.from(), headers.to(), headers.contact());
    let _ = (headers.call_id(), headers.content_type());
    for name in [HeaderName::Route, HeaderName::RecordRoute] {
        let _ = headers.addresses(name);
    }
    let _ = headers.number(HeaderName::MaxForwards);
}

/// The messages of a stream, and whether it ended in an error. Not its keep-alives, of which a cut
/// makes two.
fn cut_into_messages(parts: &[&[u8]]) -> (Vec<Bytes>, bool) {
    let mut framer = StreamFramer::new(Limits::default());
    let mut messages = Vec::new();
    for part in parts {
        framer.push(part);
        loop {
            match framer.next_frame() {
                Ok(Some(Frame::Message(message))) => messages.push(message),
                Ok(Some(Frame::Ping | Frame::Pong)) => {}
                Ok(None) => break,
                Err(_) => return (messages, true),
            }
        }
    }
    (messages, false)
}
