//! What holds for any description.

use proptest::{collection::vec, prelude::*, sample::select};

use super::{
    super::{CodecFilter, Negotiation, Side, SrtpPolicy, family},
    LOCAL_A, LOCAL_B, fixtures, policy, random,
    reading::{Reading, assert_answers, assert_ours},
};

const CODECS: [&str; 12] = [
    "PCMU/8000",
    "pcma/8000",
    "G722/8000",
    "opus/48000/2",
    "SILK/16000",
    "SILK/8000",
    "AMR/8000",
    "G729/8000",
    "telephone-event/8000",
    "telephone-event/48000",
    "CN/8000",
    "red/8000",
];

fn direction() -> impl Strategy<Value = &'static str> {
    select(vec![
        "",
        "a=sendrecv\r\n",
        "a=sendonly\r\n",
        "a=recvonly\r\n",
        "a=inactive\r\n",
    ])
}

fn crypto() -> impl Strategy<Value = String> {
    let suites = select(vec![
        ("AES_CM_128_HMAC_SHA1_80", fixtures::KEY_30),
        ("AES_CM_128_HMAC_SHA1_32", fixtures::OTHER_KEY_30),
        ("AES_CM_128_HMAC_SHA1_80", fixtures::OTHER_KEY_30),
        ("F8_128_HMAC_SHA1_80", fixtures::KEY_30),
        ("AES_CM_128_HMAC_SHA1_80", "tooshort"),
    ]);
    let tails = select(vec![
        "",
        "|2^31",
        "|2^31|1:1",
        "|1:4",
        "|x",
        " UNENCRYPTED_SRTP",
    ]);
    (0..4_u32, suites, tails).prop_map(|(tag, (suite, key), tail)| {
        format!("a=crypto:{tag} {suite} inline:{key}{tail}\r\n")
    })
}

prop_compose! {
    fn audio()(
        port in select(vec![0_u16, 4000, 4000, 4000, 65535]),
        transport in prop_oneof![
            4 => Just("RTP/AVP"),
            3 => Just("RTP/SAVP"),
            1 => select(vec!["RTP/AVPF", "RTP/SAVPF", "udptl"]),
        ],
        formats in vec((prop_oneof![
            select(vec![0_u8, 8, 9, 13, 18]),
            96..=127_u8,
        ], select(CODECS.to_vec())), 1..8),
        crypto in vec(crypto(), 0..3),
        direction in direction(),
        zeros in prop::bool::weighted(0.1),
        mux in any::<bool>(),
    ) -> String {
        let mut seen = Vec::new();
        let mut maps = String::new();
        for (number, codec) in formats {
            if seen.contains(&number) {
                continue;
            }
            seen.push(number);
            if number >= 96 {
                maps.push_str(&format!("a=rtpmap:{number} {codec}\r\na=fmtp:{number} x={number}\r\n"));
            }
        }
        let numbers: Vec<String> = seen.iter().map(u8::to_string).collect();
        let mux = if mux { "a=rtcp-mux\r\n" } else { "" };
        let zeros = if zeros { "c=IN IP4 0.0.0.0\r\n" } else { "" };
        format!(
            "m=audio {port} {transport} {}\r\n{zeros}{maps}{}{mux}{direction}",
            numbers.join(" "),
            crypto.concat()
        )
    }
}

fn line() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => audio(),
        1 => select(vec![
            "m=video 9 RTP/AVP 96\r\na=rtpmap:96 VP8/90000\r\n".to_owned(),
            "m=image 4000 udptl t38\r\n".to_owned(),
            "m=application 0 UDP/BFCP *\r\n".to_owned(),
        ]),
    ]
}

prop_compose! {
    fn description()(lines in vec(line(), 1..4), direction in direction()) -> String {
        format!(
            "v=0\r\no=x 1 1 IN IP4 198.51.100.2\r\ns=-\r\nc=IN IP4 198.51.100.2\r\nt=0 0\r\n{direction}{}",
            lines.concat()
        )
    }
}

fn policies() -> impl Strategy<Value = (SrtpPolicy, Vec<&'static str>)> {
    (
        select(vec![
            SrtpPolicy::Require,
            SrtpPolicy::Offer,
            SrtpPolicy::Off,
        ]),
        prop_oneof![
            3 => Just(vec![]),
            1 => select(vec![vec!["PCMU", "PCMA"], vec!["opus", "G722"]]),
        ],
    )
}

/// The description of a peer that answers as it should: the offered codecs in reverse, with its
/// own numbers where it likes.
fn well_behaved_answer(offer: &str, direction: &str, renumber: bool) -> String {
    let reading = Reading::of(offer);
    let mut body =
        "v=0\r\no=- 2 1 IN IP4 203.0.113.9\r\ns=-\r\nc=IN IP4 203.0.113.9\r\nt=0 0\r\n".to_owned();
    for media in &reading.media {
        if media.port == 0 {
            body.push_str(&format!(
                "m={} 0 {} {}\r\n",
                media.media,
                media.transport,
                media.formats.join(" ")
            ));
            continue;
        }
        let mut codecs = media.codecs();
        codecs.reverse();
        if renumber {
            for (place, (number, _)) in codecs.iter_mut().enumerate() {
                if *number >= 96 {
                    *number = 96 + u8::try_from(place).unwrap();
                }
            }
        }
        let numbers: Vec<String> = codecs
            .iter()
            .map(|(number, _)| number.to_string())
            .collect();
        body.push_str(&format!(
            "m=audio 5000 {} {}\r\n{direction}",
            media.transport,
            numbers.join(" ")
        ));
        for (number, codec) in &codecs {
            body.push_str(&format!("a=rtpmap:{number} {codec}\r\n"));
        }
        if let Some(line) = media.values("crypto").first() {
            let mut fields = line.split(' ');
            let (tag, suite) = (fields.next().unwrap(), fields.next().unwrap());
            body.push_str(&format!(
                "a=crypto:{tag} {suite} inline:{}\r\n",
                fixtures::OTHER_KEY_30
            ));
        }
    }
    body
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    /// Whoever offers, over several exchanges, the answers fit their offers, versions only go up
    /// and what the media plane is told agrees with what was written.
    #[test]
    fn answers_fit_their_offers(
        exchanges in vec((any::<bool>(), description(), direction(), any::<bool>(), any::<bool>()), 1..5),
        (srtp_a, codecs_a) in policies(),
        (srtp_b, codecs_b) in policies(),
    ) {
        let mut a = policy(LOCAL_A, srtp_a);
        a.codecs = CodecFilter::new(&codecs_a);
        let mut b = policy(LOCAL_B, srtp_b);
        b.codecs = CodecFilter::new(&codecs_b);
        let mut call = Negotiation::new([a, b], &mut random());
        let mut random = random();
        let mut versions = [0, 0];
        let mut lines = [0, 0];
        for (from_a, offer, direction, renumber, fails) in exchanges {
            let from = if from_a { Side::A } else { Side::B };
            let before = call.media();
            let Ok(ours) = call.offer(from, offer.as_bytes(), &mut random) else {
                prop_assert_eq!(call.media(), before);
                continue;
            };
            let address = |side| if side == Side::A { "192.0.2.1" } else { "203.0.113.1" };
            let to = from.other();
            assert_ours(&ours, address(to));
            let version = Reading::of(&ours).version();
            prop_assert!(version >= versions[to.index()]);
            versions[to.index()] = version;
            prop_assert!(Reading::of(&ours).media.len() >= lines[to.index()]);
            if fails {
                call.rollback();
                prop_assert_eq!(call.media(), before);
                continue;
            }
            let reply = well_behaved_answer(&ours, direction, renumber);
            let answer = call.answer(to, reply.as_bytes());
            prop_assert!(answer.is_ok(), "{answer:?} to\n{ours}\n{reply}");
            let answer = answer.unwrap();
            assert_ours(&answer, address(from));
            assert_answers(&offer, &answer);
            let version = Reading::of(&answer).version();
            prop_assert!(version >= versions[from.index()]);
            versions[from.index()] = version;
            lines[from.index()] = Reading::of(&offer).media.len();
            call.commit().unwrap();
            let media = call.media().unwrap();
            let srtp = |side: Side| media.legs[side.index()].srtp.is_some();
            prop_assert_eq!(srtp(from), answer.contains("a=crypto"));
            prop_assert_eq!(srtp(to), reply.contains("a=crypto"));
            for (policy, side) in [(srtp_a, Side::A), (srtp_b, Side::B)] {
                match policy {
                    SrtpPolicy::Require => prop_assert!(srtp(side)),
                    SrtpPolicy::Off => prop_assert!(!srtp(side)),
                    SrtpPolicy::Offer => {}
                }
            }
            // Every number that a side was told to send reaches the other as one that it asked
            // for, with the same codec.
            for (sender, told, receiver, asked) in
                [(from, &answer, to, &reply), (to, &ours, from, &offer)]
            {
                let stream = &media.streams[sender.index()];
                prop_assert!(!stream.payload_types.is_empty());
                let told = Reading::of(told).audio().codecs();
                // The offer may hold several audio lines; ours stands where it was answered.
                let place = Reading::of(if receiver == from { &answer } else { &ours })
                    .media
                    .iter()
                    .position(|media| media.port != 0)
                    .unwrap();
                let asked = Reading::of(asked).media[place].clone();
                for (number, codec) in &told {
                    let mapped = stream.payload_types.iter().find(|(from, _)| from == number);
                    // B may have been offered more than it took.
                    if let Some((_, to)) = mapped {
                        prop_assert_eq!(&asked.codec(&to.to_string()), codec);
                    } else {
                        prop_assert!(sender == to);
                    }
                }
                let mut sources: Vec<u8> = stream.payload_types.iter().map(|(from, _)| *from).collect();
                sources.sort_unstable();
                sources.dedup();
                prop_assert_eq!(sources.len(), stream.payload_types.len());
            }
        }
    }

    #[test]
    fn random_octets_do_no_harm(body in vec(any::<u8>(), 0..400)) {
        let mut call = super::plain();
        let _ = family(&body);
        prop_assert!(call.offer(Side::A, &body, &mut random()).is_err());
        call.offer(Side::A, fixtures::SIPP.as_bytes(), &mut random()).unwrap();
        prop_assert!(call.answer(Side::B, &body).is_err());
    }

    /// A real description, cut, with octets changed or lines moved: refused or served, never worse.
    #[test]
    fn damaged_descriptions_do_no_harm(
        fixture in select(fixtures::ALL.to_vec()),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in any::<prop::sample::Index>(),
        srtp in select(vec![SrtpPolicy::Require, SrtpPolicy::Offer, SrtpPolicy::Off]),
    ) {
        let mut body = fixture.as_bytes().to_vec();
        for (place, octet) in changes {
            let place = place.index(body.len());
            body[place] = octet;
        }
        let end = cut.index(body.len() * 2).min(body.len());
        body.truncate(end);
        let mut call = super::negotiation(srtp, SrtpPolicy::Off);
        let _ = family(&body);
        if let Ok(ours) = call.offer(Side::A, &body, &mut random()) {
            assert_ours(&ours, "203.0.113.1");
            let reply = well_behaved_answer(&ours, "", false);
            let answer = call.answer(Side::B, reply.as_bytes()).unwrap();
            assert_ours(&answer, "192.0.2.1");
        }
        let mut call = super::negotiation(SrtpPolicy::Off, srtp);
        call.offer(Side::A, fixtures::CARRIER.as_bytes(), &mut random()).unwrap();
        if let Ok(answer) = call.answer(Side::B, &body) {
            assert_answers(fixtures::CARRIER, &answer);
        }
    }
}
