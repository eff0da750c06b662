//! The messages of RFC 4475.

use super::{
    torture_cases::{CASES, long_request},
    *,
};

#[test]
fn each_message_gets_the_answer_that_its_section_asks_for() {
    for case in CASES {
        let text = case.text.replace('\n', "\r\n");
        let result = parse(text.as_bytes(), &Limits::default());
        let answer = match &result {
            Ok(_) => None,
            Err(rejection) => Some(
                rejection
                    .response
                    .as_ref()
                    .map_or(0, |response| response.status),
            ),
        };
        assert_eq!(answer, case.answer, "{}: {result:?}", case.name);
    }
}

#[test]
fn the_tortuous_invite_means_what_it_says() {
    let text = CASES[0].text.replace('\n', "\r\n");
    let message = parse(text.as_bytes(), &Limits::default()).expect("wsinv");
    let headers = message.headers();
    assert_eq!(headers.vias().expect("vias").len(), 3);
    assert_eq!(headers.via().expect("via").branch(), Some("390skdjuw"));
    assert_eq!(headers.cseq().expect("cseq").number, 9);
    assert_eq!(
        headers.to().expect("to").tag().as_deref(),
        Some("1918181833n")
    );
    let from = headers.from().expect("from");
    assert_eq!(from.display_name().as_deref(), Some("J Rosenberg \\\""));
    assert_eq!(from.tag().as_deref(), Some("98asjd8"));
    let contact = headers.contact().expect("contact");
    assert_eq!(contact.parameters.get("newparam"), Some("newvalue"));
    assert_eq!(contact.parameters.get("q"), Some("0.33"));
    assert_eq!(
        headers.text("UnknownHeaderWithUnusualValue"),
        Some(";;,,;;,;")
    );
}

fn case(name: &str) -> Message {
    let case = CASES.iter().find(|case| case.name == name).expect("a case");
    let text = case.text.replace('\n', "\r\n");
    parse(text.as_bytes(), &Limits::default()).expect(name)
}

#[test]
fn parameters_belong_to_the_uri_only_inside_brackets() {
    let contact = |name: &str| case(name).headers().contact().expect(name);
    let outside = contact("cparam01");
    assert!(outside.parameters.has("unknownparam"));
    assert!(outside.uri.as_sip().expect("sip").parameters.is_empty());
    let inside = contact("cparam02");
    assert!(inside.parameters.is_empty());
    assert!(
        inside
            .uri
            .as_sip()
            .expect("sip")
            .parameters
            .has("unknownparam")
    );
    let escaped = contact("regescrt");
    assert_eq!(
        escaped.uri.as_sip().expect("sip").headers.as_deref(),
        Some("Route=%3Csip:sip.example.com%3E")
    );
}

#[test]
fn escapes_are_kept_and_undone_on_demand() {
    let Message::Request(request) = case("esc01") else {
        panic!("a response")
    };
    assert_eq!(request.uri.user(), Some("sips%3Auser%40example.com"));
    assert_eq!(
        request.uri.user_unescaped().as_deref(),
        Some("sips:user@example.com")
    );
    // A method and a header name that look escaped are not.
    let Message::Request(request) = case("esc02") else {
        panic!("a response")
    };
    assert_eq!(request.method, Method::Other("RE%47IST%45R".into()));
    let contacts = request.headers.addresses(HeaderName::Contact);
    assert_eq!(contacts.expect("contacts").len(), 1);
}

#[test]
fn only_the_first_of_two_messages_in_a_datagram_is_read() {
    let Message::Request(request) = case("dblreq") else {
        panic!("a response")
    };
    assert_eq!(request.method, Method::Register);
    assert!(request.body.is_empty());
}

#[test]
fn very_long_values_are_read() {
    let text = long_request();
    let message = parse(text.as_bytes(), &Limits::default()).expect("longreq");
    assert_eq!(message.headers().vias().expect("vias").len(), 2);
}
