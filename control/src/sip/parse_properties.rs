use proptest::{collection::vec, prelude::*};

use super::{
    tests::{INVITE, request},
    *,
};

/// Messages that a mutation can start from.
fn seeds() -> Vec<Vec<u8>> {
    let mut seeds: Vec<Vec<u8>> = torture_cases::CASES
        .iter()
        .map(|case| case.text.replace('\n', "\r\n").into_bytes())
        .collect();
    seeds.push(INVITE.as_bytes().to_vec());
    seeds
}

#[derive(Clone, Debug)]
enum Mutation {
    Set(usize, u8),
    Remove(usize, usize),
    Repeat(usize, usize),
    Insert(usize, Vec<u8>),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let piece = prop_oneof![
        vec(any::<u8>(), 1..8),
        proptest::sample::select(vec![
            "\r\n",
            "\r",
            "\n",
            "\0",
            ";",
            "\"",
            "\\",
            "<",
            ">",
            ",",
            "%",
            "[",
            "]",
            ":",
            "@",
            " ",
            "\t",
            "Via: ",
            "Content-Length: ",
            "99999999999999999999",
            "\r\n ",
        ])
        .prop_map(|text| text.as_bytes().to_vec()),
    ];
    prop_oneof![
        (any::<usize>(), any::<u8>()).prop_map(|(at, octet)| Mutation::Set(at, octet)),
        (any::<usize>(), 1..40usize).prop_map(|(at, length)| Mutation::Remove(at, length)),
        (any::<usize>(), 1..200usize).prop_map(|(at, length)| Mutation::Repeat(at, length)),
        (any::<usize>(), piece).prop_map(|(at, piece)| Mutation::Insert(at, piece)),
    ]
}

fn mutate(octets: &mut Vec<u8>, mutation: Mutation) {
    let clamp = |at: usize, octets: &[u8]| {
        if octets.is_empty() {
            0
        } else {
            at % octets.len()
        }
    };
    match mutation {
        Mutation::Set(at, octet) => {
            let at = clamp(at, octets);
            if let Some(place) = octets.get_mut(at) {
                *place = octet;
            }
        }
        Mutation::Remove(at, length) => {
            let at = clamp(at, octets);
            let end = (at + length).min(octets.len());
            octets.drain(at..end);
        }
        Mutation::Repeat(at, length) => {
            let at = clamp(at, octets);
            let end = (at + length).min(octets.len());
            let piece = octets[at..end].to_vec();
            octets.splice(at..at, piece);
        }
        Mutation::Insert(at, piece) => {
            let at = clamp(at, octets);
            octets.splice(at..at, piece);
        }
    }
}

/// What every reader of an accepted message may do to it.
fn use_all(message: &Message) {
    let headers = message.headers();
    let _ = (
        headers.via(),
        headers.vias(),
        headers.from(),
        headers.to(),
        headers.cseq(),
    );
    let _ = (headers.contact(), headers.call_id(), headers.content_type());
    for name in [
        HeaderName::Route,
        HeaderName::Contact,
        HeaderName::Diversion,
    ] {
        let _ = headers.addresses(name);
    }
    for name in [HeaderName::Expires, HeaderName::MinSe, HeaderName::RSeq] {
        let _ = headers.number(name);
    }
    if let Message::Request(request) = message {
        let _ = Response::to_request(request, 200, Some("tag")).to_bytes();
    }
}

fn check_any(octets: &[u8]) -> Result<(), TestCaseError> {
    match parse(octets, &Limits::default()) {
        Ok(message) => {
            use_all(&message);
            let out = message.to_bytes();
            let again = parse(&out, &Limits::default());
            let again = again.map_err(|rejection| {
                TestCaseError::fail(format!("{rejection}: {}", String::from_utf8_lossy(&out)))
            })?;
            prop_assert_eq!(again.to_bytes(), &out);
            prop_assert_eq!(message.body(), again.body());
        }
        Err(rejection) => {
            if let Some(response) = rejection.response {
                let _ = response.to_bytes();
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn any_octets_are_survived(octets in vec(any::<u8>(), 0..300)) {
        check_any(&octets)?;
    }

    #[test]
    fn any_mutation_is_survived(
        seed in any::<proptest::sample::Index>(),
        mutations in vec(mutation(), 0..6),
    ) {
        let seeds = seeds();
        let mut octets = seed.get(&seeds).clone();
        for mutation in mutations {
            mutate(&mut octets, mutation);
        }
        check_any(&octets)?;
    }

    #[test]
    fn a_field_that_is_not_known_comes_out_as_it_went_in(
        name in "X-[A-Za-z0-9-]{1,20}",
        value in "[!-~]([ -~]{0,60}[!-~])?",
    ) {
        let text = INVITE.replace("Max-Forwards: 70", &format!("{name}:  {value} "));
        let out = request(&text).to_bytes();
        let line = format!("\r\n{name}: {value}\r\n");
        prop_assert!(memchr::memmem::find(&out, line.as_bytes()).is_some());
    }
}
