use super::{
    super::{Parameters, Via},
    *,
};

pub(super) const INVITE: &str = "INVITE sip:+15551234@sbc.example.com;user=phone SIP/2.0\r\n\
    Via: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK-a;rport, SIP/2.0/TCP [2001:db8::1];branch=z9hG4bK-b\r\n\
    Max-Forwards: 70\r\n\
    f: \"Alice \\\"A\\\" <x>\" <sip:alice@example.com>;tag=1\r\n\
    To:<sip:+15551234@sbc.example.com>\r\n\
    Call-ID: abc@192.0.2.1\r\n\
    CSeq: 7 INVITE\r\n\
    cOnTaCt: <sip:alice@[2001:db8::1]:5070;transport=tcp>\r\n\
    X-Weird:   one\r\n \ttwo  \r\n\
    Subject: folded\r\n   here\r\n\
    Content-Length: 4\r\n\
    \r\n\
    body";

fn good(text: &str) -> Message {
    parse(text.as_bytes(), &Limits::default())
        .unwrap_or_else(|rejection| panic!("{rejection}:\n{text}"))
}

pub(super) fn request(text: &str) -> Request {
    match good(text) {
        Message::Request(request) => request,
        Message::Response(_) => panic!("a response"),
    }
}

fn bad(text: &str) -> Rejection {
    parse(text.as_bytes(), &Limits::default()).expect_err("accepted")
}

#[test]
fn a_request_is_read_through_its_typed_views() {
    let request = request(INVITE);
    assert_eq!(request.method, Method::Invite);
    assert_eq!(request.uri.user(), Some("+15551234"));
    let vias = request.headers.vias().expect("vias");
    assert_eq!(vias.len(), 2);
    assert_eq!(vias[0].branch(), Some("z9hG4bK-a"));
    assert!(vias[0].parameters.has("rport"));
    assert_eq!(vias[1].host, "[2001:db8::1]");
    let from = request.headers.from().expect("from");
    assert_eq!(from.display_name().as_deref(), Some("Alice \"A\" <x>"));
    assert_eq!(from.tag().as_deref(), Some("1"));
    assert_eq!(request.headers.to().expect("to").tag(), None);
    assert_eq!(
        request.headers.cseq().expect("cseq"),
        CSeq::new(7, Method::Invite)
    );
    let contact = request.headers.contact().expect("contact");
    let uri = contact.uri.as_sip().expect("sip");
    assert_eq!(uri.port, Some(5070));
    assert_eq!(uri.transport(), Some("tcp"));
    assert_eq!(uri.address(), Some("2001:db8::1".parse().expect("address")));
    assert_eq!(request.headers.text("Subject"), Some("folded here"));
    assert_eq!(request.headers.text("s"), Some("folded here"));
    assert_eq!(
        request.headers.number(HeaderName::MaxForwards),
        Ok(Some(70))
    );
    assert_eq!(&request.body[..], b"body");
}

#[test]
fn unknown_fields_are_kept_byte_for_byte() {
    let out = request(INVITE).to_bytes();
    let text = std::str::from_utf8(&out).expect("text");
    assert!(text.contains("\r\nX-Weird: one\r\n \ttwo\r\n"), "{text}");
    assert!(text.contains("\r\nf: \"Alice \\\"A\\\" <x>\" <sip:alice@example.com>;tag=1\r\n"));
    assert!(text.contains("\r\ncOnTaCt: "), "{text}");
    assert!(text.ends_with("\r\nContent-Length: 4\r\n\r\nbody"));
}

#[test]
fn what_is_written_is_read_as_the_same() {
    let first = good(INVITE);
    let again = parse(&first.to_bytes(), &Limits::default()).expect("good");
    assert_eq!(first, again);
    assert_eq!(first.to_bytes(), again.to_bytes());
}

#[test]
fn a_wrong_content_length_is_corrected_when_the_body_changes() {
    let mut request = request(INVITE);
    request.body = Bytes::from_static(b"longer body");
    let out = request.to_bytes();
    assert!(out.ends_with(b"Content-Length: 11\r\n\r\nlonger body"));
}

#[test]
fn octets_after_the_announced_body_are_left_aside() {
    assert_eq!(&request(&format!("{INVITE}trailing")).body[..], b"body");
}

#[test]
fn a_body_shorter_than_announced_is_refused_with_an_answer() {
    let rejection = bad(INVITE.strip_suffix("dy").expect("suffix"));
    assert_eq!(rejection.error, SipError::BodyTruncated);
    let response = rejection.response.expect("an answer");
    assert_eq!(response.status, 400);
    assert_eq!(response.headers.vias().expect("vias").len(), 2);
    assert!(response.headers.to().expect("to").tag().is_some());
}

#[test]
fn limits_earn_their_own_codes() {
    let limits = Limits {
        message: 4000,
        body: 100,
        headers: 20,
        header: 500,
        uri: 100,
    };
    let with = |line: &str| INVITE.replace("X-Weird:   one", line);
    let cases = [
        (
            with(&format!("X: {}", "y".repeat(600))),
            400,
            "header-too-long",
        ),
        (
            with(&"X: y\r\n".repeat(20)[..20 * 6 - 2]),
            400,
            "too-many-headers",
        ),
        (
            with(&format!("Contact: {}", "<a:b>,".repeat(30))),
            400,
            "too-many-headers",
        ),
        (
            with(&format!("X: {}", "y".repeat(5000))),
            513,
            "message-too-large",
        ),
        (
            INVITE.replace("Length: 4", "Length: 200") + &"y".repeat(196),
            413,
            "body-too-large",
        ),
        (
            INVITE.replace("sip:+15551234@sbc", &format!("sip:{}@sbc", "1".repeat(100))),
            414,
            "uri-too-long",
        ),
        (
            INVITE.replace("phone SIP/2.0", "phone SIP/7.0"),
            505,
            "version",
        ),
    ];
    for (text, status, name) in cases {
        let rejection = parse(text.as_bytes(), &limits).expect_err(name);
        assert_eq!(rejection.error.name(), name);
        assert_eq!(rejection.response.expect(name).status, status, "{name}");
    }
}

#[test]
fn faults_name_their_header() {
    let cases = [
        ("CSeq: 7 INVITE", "CSeq: 7 BYE", SipError::MethodMismatch),
        (
            "CSeq: 7 INVITE",
            "CSeq: 2147483648 INVITE",
            SipError::Malformed(HeaderName::CSeq),
        ),
        (
            "CSeq: 7 INVITE",
            "X: y",
            SipError::Missing(HeaderName::CSeq),
        ),
        (
            "Max-Forwards: 70",
            "Call-ID: b",
            SipError::Repeated(HeaderName::CallId),
        ),
        (
            "Max-Forwards: 70",
            "Max-Forwards: 300",
            SipError::Malformed(HeaderName::MaxForwards),
        ),
        (
            "Call-ID: abc@192.0.2.1",
            "Call-ID: a b",
            SipError::Malformed(HeaderName::CallId),
        ),
        ("Max-Forwards: 70", "no colon here", SipError::HeaderLine),
        ("Max-Forwards: 70", "Bad Name: x", SipError::HeaderLine),
        ("Max-Forwards: 70", "X: a\nY: b", SipError::HeaderLine),
        ("Max-Forwards: 70", "X: a\rY: b", SipError::HeaderLine),
        (
            "Via: SIP/2.0/UDP",
            "Via: SIP/3.0/UDP",
            SipError::Malformed(HeaderName::Via),
        ),
    ];
    for (old, new, error) in cases {
        let text = INVITE.replacen(old, new, 1);
        assert_ne!(text, INVITE);
        assert_eq!(bad(&text).error, error, "{new}");
    }
}

#[test]
fn the_offset_points_at_the_fault() {
    let text = INVITE.replace("Max-Forwards: 70", "no colon here");
    assert_eq!(bad(&text).offset, text.find("no colon").expect("there"));
}

#[test]
fn an_ack_is_never_answered() {
    let text = INVITE
        .replacen("INVITE", "ACK", 1)
        .replace("7 INVITE", "7 BYE");
    assert_eq!(bad(&text).response, None);
}

#[test]
fn a_value_cannot_begin_another_header() {
    let request = request(INVITE)
        .with("X-Injected", "a\r\nEvil: yes")
        .with("X\r\nEvil2", "b");
    let again = parse(&request.to_bytes(), &Limits::default()).expect("good");
    assert!(!again.headers().has("Evil"));
    assert!(!again.headers().has("Evil2"));
    assert_eq!(again.headers().text("X-Injected"), Some("a  Evil: yes"));
}

#[test]
fn a_response_is_made_from_its_request() {
    let request = request(&INVITE.replace(
        "Max-Forwards: 70",
        "Record-Route: <sip:p;lr>\r\nTimestamp: 54",
    ));
    let trying = Response::to_request(&request, 100, None);
    assert_eq!(trying.headers.text("Timestamp"), Some("54"));
    assert_eq!(trying.headers.to().expect("to").tag(), None);
    let ok = Response::to_request(&request, 200, Some("t")).copy_record_route(&request);
    assert!(!ok.headers.has("Timestamp"));
    assert_eq!(ok.headers.to().expect("to").tag().as_deref(), Some("t"));
    assert!(ok.headers.has(HeaderName::RecordRoute));
    let again = parse(&ok.to_bytes(), &Limits::default()).expect("good");
    assert_eq!(again.headers().vias(), request.headers.vias());
}

#[test]
fn elements_are_taken_and_replaced_one_by_one() {
    let mut headers = request(INVITE).headers;
    let mut via = headers.via().expect("via");
    assert!(via.mark_received("198.51.100.7:40000".parse().expect("address")));
    headers.set_first(HeaderName::Via, &via);
    assert_eq!(
        headers.text(HeaderName::Via),
        Some(
            "SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK-a;rport=40000;received=198.51.100.7, \
             SIP/2.0/TCP [2001:db8::1];branch=z9hG4bK-b"
        )
    );
    assert_eq!(
        via.response_address(),
        Some("198.51.100.7:40000".parse().expect("address"))
    );
    assert!(headers.remove_first(HeaderName::Via).is_some());
    assert_eq!(headers.via().expect("via").branch(), Some("z9hG4bK-b"));
    assert!(headers.remove_first(HeaderName::Via).is_some());
    assert!(!headers.has(HeaderName::Via));
    assert!(headers.remove_first(HeaderName::Via).is_none());
}

#[test]
fn a_forged_received_is_taken_away() {
    let mut via = Via::parse(&Bytes::from_static(
        b"SIP/2.0/UDP 192.0.2.1;received=203.0.113.9;branch=z9hG4bK1",
    ))
    .expect("via");
    assert!(via.mark_received("192.0.2.1:5060".parse().expect("address")));
    assert_eq!(via.received(), None);
}

#[test]
fn uris_are_compared_as_the_rfc_does() {
    let uri = |text: &str| text.parse::<Uri>().expect(text);
    let same = |a: &str, b: &str| {
        let (a, b) = (uri(a), uri(b));
        a.as_sip()
            .expect("sip")
            .equivalent(b.as_sip().expect("sip"))
    };
    assert!(same(
        "sip:%61lice@atlanta.com;transport=TCP",
        "sip:alice@AtLanTa.CoM;Transport=tcp"
    ));
    assert!(same(
        "sip:carol@chicago.com",
        "sip:carol@chicago.com;newparam=5"
    ));
    assert!(!same("SIP:ALICE@AtLanTa.CoM", "sip:alice@atlanta.com"));
    assert!(!same("sip:bob@biloxi.com", "sip:bob@biloxi.com:5060"));
    assert!(!same(
        "sip:bob@biloxi.com",
        "sip:bob@biloxi.com;transport=udp"
    ));
    assert!(!same(
        "sip:carol@chicago.com;security=on",
        "sip:carol@chicago.com;security=off"
    ));
    assert_eq!(uri("sip:a%20b@h").user_unescaped().as_deref(), Some("a b"));
    assert_eq!(uri("tel:+1-555;phone-context=x").user(), Some("+1-555"));
}

#[test]
fn broken_uris_are_refused() {
    for text in [
        "",
        "sip:",
        "sip:@host",
        "sip:a@",
        "sip:a@b@c",
        "sip:a b@c",
        "sip:%zz@h",
        "sip:h:99999",
        "sip:h:",
        "sip:[::1",
        "sip:[x]",
        "sip:h;;",
        "sip:h;=x",
        "sip:ho st",
        "tel:",
        "tel:abc!",
        "1x:y",
        "sip:h?x",
        "nocolon",
        "sip:a@h;p=\u{e9}",
    ] {
        assert_eq!(text.parse::<Uri>(), Err(SipError::Uri), "{text}");
    }
    for text in [
        "sip:user;par=u%40example.net@example.com",
        "sip:1;n=2@[2001:db8::10]:70;lr;x=y?Subject=a&b=c",
        "sips:alice:secret@h",
        "tel:+15551234",
        "urn:service:sos",
    ] {
        let uri: Uri = text.parse().expect(text);
        assert_eq!(uri.to_string(), text);
    }
}

#[test]
fn parameters_change_in_place() {
    let mut parameters = Parameters::new();
    parameters.set("a", 1);
    parameters.set_flag("lr");
    parameters.set("c", "\"q;,\\\"\"");
    assert_eq!(parameters.as_str(), ";a=1;lr;c=\"q;,\\\"\"");
    assert_eq!(parameters.unquoted("C").as_deref(), Some("q;,\""));
    parameters.set("A", "2");
    parameters.remove("lr");
    assert_eq!(parameters.as_str(), ";a=2;c=\"q;,\\\"\"");
}
