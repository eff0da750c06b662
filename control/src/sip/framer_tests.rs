use proptest::{collection::vec, prelude::*};

use super::*;

fn message(body: &str) -> String {
    format!(
        "OPTIONS sip:a@b SIP/2.0\r\nVia: SIP/2.0/TCP h;branch=z9hG4bK1\r\nFrom: <sip:a@b>;tag=1\r\n\
         To: <sip:a@b>\r\nCall-ID: c\r\nCSeq: 1 OPTIONS\r\nl : {}\r\n\r\n{body}",
        body.len()
    )
}

fn drain(framer: &mut StreamFramer) -> Vec<Frame> {
    std::iter::from_fn(|| framer.next_frame().expect("good")).collect()
}

proptest! {
    #[test]
    fn however_the_stream_is_cut_the_messages_are_the_same(
        bodies in vec("[a-z\r\n]{0,40}", 1..6),
        cuts in vec(1..50usize, 1..200),
    ) {
        let stream: String = bodies.iter().map(|body| message(body)).collect();
        let mut framer = StreamFramer::new(Limits::default());
        let mut out = Vec::new();
        let mut rest = stream.as_bytes();
        for cut in cuts.into_iter().cycle() {
            let (now, later) = rest.split_at(cut.min(rest.len()));
            framer.push(now);
            out.extend(drain(&mut framer));
            rest = later;
            if rest.is_empty() {
                break;
            }
        }
        let expected: Vec<Frame> = bodies.iter().map(|body| Frame::Message(message(body).into())).collect();
        prop_assert_eq!(out, expected);
        prop_assert_eq!(framer.pending(), 0);
    }

    #[test]
    fn any_octets_are_survived_and_memory_is_bounded(pieces in vec(vec(any::<u8>(), 0..400), 0..40)) {
        let limits = Limits { message: 2000, ..Limits::default() };
        let mut framer = StreamFramer::new(limits);
        for piece in pieces {
            framer.push(&piece);
            while let Ok(Some(_)) = framer.next_frame() {}
            prop_assert!(framer.pending() <= limits.message);
        }
    }
}

#[test]
fn keep_alives_are_told_from_messages() {
    let mut framer = StreamFramer::new(Limits::default());
    framer.push(b"\r\n\r\n");
    assert_eq!(drain(&mut framer), [Frame::Ping]);
    framer.push(b"\r\n");
    assert_eq!(drain(&mut framer), [Frame::Pong]);
    framer.push(format!("\r\n\r\n{}\r\n", message("")).as_bytes());
    assert_eq!(
        drain(&mut framer),
        [Frame::Ping, Frame::Message(message("").into()), Frame::Pong]
    );
}

#[test]
fn a_ping_in_two_segments_is_answered() {
    let mut framer = StreamFramer::new(Limits::default());
    framer.push(b"\r\n");
    assert_eq!(drain(&mut framer), [Frame::Pong]);
    framer.push(b"\r\n");
    assert_eq!(drain(&mut framer), [Frame::Ping]);
}

#[test]
fn a_message_without_an_end_is_refused_with_an_answer() {
    for (old, new, error) in [
        ("l : 0", "X: 0", SipError::LengthRequired),
        (
            "l : 0",
            "l: -1",
            SipError::Malformed(HeaderName::ContentLength),
        ),
        (
            "l : 0",
            "l: 1\r\nContent-Length: 1",
            SipError::Repeated(HeaderName::ContentLength),
        ),
    ] {
        let mut framer = StreamFramer::new(Limits::default());
        framer.push(message("").replace(old, new).as_bytes());
        let rejection = framer.next_frame().expect_err(new);
        assert_eq!(rejection.error, error);
        assert_eq!(rejection.response.expect("an answer").status, 400);
        framer.push(message("").as_bytes());
        assert_eq!(framer.next_frame(), Ok(None), "nothing more comes");
        assert_eq!(framer.pending(), 0);
    }
}

#[test]
fn an_oversized_message_is_refused_before_it_is_held() {
    let mut framer = StreamFramer::new(Limits::default());
    framer.push(message("").replace("l : 0", "l: 99999999").as_bytes());
    let rejection = framer.next_frame().expect_err("oversized");
    assert_eq!(rejection.response.expect("an answer").status, 413);

    let mut framer = StreamFramer::new(Limits::default());
    let mut refused = None;
    for _ in 0..100 {
        framer.push(&[b'a'; 1000]);
        if let Err(rejection) = framer.next_frame() {
            refused = Some(rejection.error);
        }
    }
    assert_eq!(refused, Some(SipError::MessageTooLarge { limit: 65_535 }));
    assert_eq!(framer.pending(), 0);
}
