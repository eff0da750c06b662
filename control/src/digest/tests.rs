use std::time::{Duration, Instant};

use super::*;

/// RFC 2617 §3.5 and RFC 7616 §3.9.1 have this exchange.
fn published(value: &str) -> Challenge {
    Challenge::parse(value.as_bytes()).unwrap()
}

const ASKED: Asked<'_> = Asked {
    method: "GET",
    uri: "/dir/index.html",
    body: b"",
};

fn response(answer: &Answer) -> String {
    let text = answer.text();
    let at = text.find("response=\"").unwrap() + 10;
    text[at..].split('"').next().unwrap().to_owned()
}

#[test]
fn the_published_examples_come_out() {
    let old = published(
        "Digest realm=\"testrealm@host.com\", qop=\"auth,auth-int\", \
         nonce=\"dcd98b7102dd2f0e8b11d0f600bfb0c093\", opaque=\"5ccc069c403ebaf9f0171e9517f40e41\"",
    );
    assert_eq!(old.protection, Some(Protection::Authentication));
    let answer = Answer::new(&old, "Mufasa", "Circle Of Life", ASKED, 1, "0a4f113b");
    assert_eq!(response(&answer), "6629fae49393a05397450978507c4ef1");

    let nonce = "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v";
    let client_nonce = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ";
    for (algorithm, wanted) in [
        ("MD5", "8ca523f5e9506fed4657c9700eebdbec"),
        (
            "SHA-256",
            "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1",
        ),
    ] {
        let challenge = published(&format!(
            "Digest realm=\"http-auth@example.org\", qop=\"auth, auth-int\", \
             algorithm={algorithm}, nonce=\"{nonce}\", opaque=\"FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS\""
        ));
        let answer = Answer::new(
            &challenge,
            "Mufasa",
            "Circle of Life",
            ASKED,
            1,
            client_nonce,
        );
        assert_eq!(response(&answer), wanted, "{algorithm}");
        let read = Answer::parse(answer.text().as_bytes()).unwrap();
        assert_eq!(read, answer);
        assert!(read.proves("Circle of Life", "GET", b""));
        assert!(!read.proves("Circle of Life", "PUT", b""));
        assert!(!read.proves("Circle of life", "GET", b""));
    }
}

#[test]
fn an_answer_as_rfc_2069_had_it_is_made_and_read() {
    let challenge = published("Digest realm=\"r\", nonce=\"n\"");
    let answer = Answer::new(&challenge, "u", "p", ASKED, 1, "c");
    assert!(!answer.text().contains("qop"));
    assert!(!answer.text().contains("algorithm"));
    let read = Answer::parse(answer.text().as_bytes()).unwrap();
    assert_eq!(read.count, None);
    assert!(read.proves("p", "GET", b""));
}

#[test]
fn where_only_the_body_s_protection_is_offered_the_body_counts() {
    let challenge =
        published("Digest realm=\"r\", nonce=\"n\", qop=\"auth-int\", algorithm=SHA-256");
    let asked = Asked {
        body: b"v=0",
        ..ASKED
    };
    let answer = Answer::new(&challenge, "u", "p", asked, 1, "c");
    assert!(answer.proves("p", "GET", b"v=0"));
    assert!(!answer.proves("p", "GET", b"v=1"));
}

#[test]
fn quotes_and_backslashes_come_back() {
    let challenge = published("Digest realm=\"a \\\"b\\\" \\\\c\", nonce=\"n\" , opaque=\"\"");
    assert_eq!(challenge.realm, "a \"b\" \\c");
    let answer = Answer::new(&challenge, "u\"x", "p", ASKED, 1, "c");
    let read = Answer::parse(answer.text().as_bytes()).unwrap();
    assert_eq!((read.user.as_str(), read.realm), ("u\"x", challenge.realm));
    assert_eq!(read.opaque.as_deref(), Some(""));
}

#[test]
fn what_is_no_challenge_for_us_is_none() {
    for value in [
        "Basic realm=\"r\"",
        "Digest",
        "Digest realm=\"r\"",
        "Digest realm=\"r\", nonce=\"n\", algorithm=SHA3-512",
        "Digest realm=\"r\", nonce=\"n\", algorithm=MD5-sess",
        "Digest realm=\"r\", nonce=\"n\", qop=\"other\"",
        "Digest realm=\"r, nonce=\"n\"",
        "Digest realm=\"r\", realm=\"s\", nonce=\"n\"",
        "Digest realm=\"r\" nonce=\"n\"",
        "Digest realm=\"r\\",
    ] {
        assert_eq!(Challenge::parse(value.as_bytes()), None, "{value}");
    }
    for value in [
        "Digest username=\"u\", realm=\"r\", nonce=\"n\", uri=\"s\"",
        "Digest username=\"u\", realm=\"r\", nonce=\"n\", uri=\"s\", response=\"x\", qop=auth",
        "Digest username=\"u\", realm=\"r\", nonce=\"n\", uri=\"s\", response=\"x\", qop=auth, nc=1, cnonce=\"c\"",
    ] {
        assert_eq!(Answer::parse(value.as_bytes()), None, "{value}");
    }
}

const LIFE: Duration = Duration::from_secs(300);

#[test]
fn a_nonce_is_taken_as_long_as_its_count_rises() {
    let now = Instant::now();
    let mut nonces = Nonces::new([1; 32]);
    let nonce = nonces.make(now, "carrier", 7);
    assert!(
        nonces.is_empty(),
        "nothing is remembered of what nobody used"
    );
    for (count, wanted) in [
        (Some(1), Freshness::Good),
        (Some(1), Freshness::Stale),
        (Some(2), Freshness::Good),
        (Some(9), Freshness::Good),
        (Some(3), Freshness::Stale),
        (Some(0), Freshness::Stale),
    ] {
        let taken = nonces.take(now, "carrier", &nonce, count, LIFE);
        assert_eq!(taken, wanted, "{count:?}");
    }
    let other = nonces.make(now, "carrier", 8);
    let once = |nonces: &mut Nonces| nonces.take(now, "carrier", &other, None, LIFE);
    assert_eq!(once(&mut nonces), Freshness::Good);
    assert_eq!(once(&mut nonces), Freshness::Stale);
}

#[test]
fn a_nonce_lives_for_its_time_and_for_whom_it_was_made() {
    let now = Instant::now();
    let mut nonces = Nonces::new([1; 32]);
    let nonce = nonces.make(now, "carrier", 7);
    let later = |seconds| now + Duration::from_secs(seconds);
    let take = |nonces: &mut Nonces, at, whom: &str, nonce: &str, count| {
        nonces.take(at, whom, nonce, Some(count), LIFE)
    };
    assert_eq!(
        take(&mut nonces, now, "other", &nonce, 1),
        Freshness::Foreign
    );
    let mut forged = nonce.clone().into_bytes();
    forged[3] ^= 1;
    let forged = String::from_utf8(forged).unwrap();
    for foreign in ["", "AAAA", &forged] {
        assert_eq!(
            take(&mut nonces, now, "carrier", foreign, 1),
            Freshness::Foreign,
            "{foreign}"
        );
    }
    assert_eq!(
        take(&mut Nonces::new([2; 32]), now, "carrier", &nonce, 1),
        Freshness::Foreign
    );
    assert_eq!(
        take(&mut nonces, later(300), "carrier", &nonce, 1),
        Freshness::Good
    );
    assert_eq!(
        take(&mut nonces, later(301), "carrier", &nonce, 2),
        Freshness::Stale
    );
    let fresh = nonces.make(later(700), "carrier", 9);
    assert_eq!(
        take(&mut nonces, later(700), "carrier", &fresh, 1),
        Freshness::Good
    );
    assert_eq!(nonces.len(), 1, "what is too old is forgotten");
}

#[test]
fn what_is_remembered_is_bounded_and_nothing_comes_back() {
    let begin = Instant::now();
    let mut nonces = Nonces::new([1; 32]);
    let mut first = None;
    for number in 0..17_000u64 {
        let now = begin + Duration::from_millis(number);
        let nonce = nonces.make(now, "carrier", number);
        first.get_or_insert_with(|| nonce.clone());
        assert_eq!(
            nonces.take(now, "carrier", &nonce, Some(1), LIFE),
            Freshness::Good
        );
    }
    assert_eq!(nonces.len(), 16_384);
    let now = begin + Duration::from_secs(17);
    assert_eq!(
        nonces.take(now, "carrier", &first.unwrap(), Some(1), LIFE),
        Freshness::Stale
    );
}

proptest::proptest! {
    #[test]
    fn whatever_comes_is_read_or_not(value in "(Digest )?[a-z\"\\\\=, \\PC]{0,80}") {
        let _ = Challenge::parse(value.as_bytes());
        let _ = Answer::parse(value.as_bytes());
        let mut nonces = Nonces::new([1; 32]);
        let taken = nonces.take(Instant::now(), "carrier", &value, Some(1), LIFE);
        proptest::prop_assert_eq!(taken, Freshness::Foreign);
    }

    #[test]
    fn what_is_written_is_read_again(
        user in "\\PC{1,20}",
        realm in "\\PC{0,20}",
        password in "\\PC{1,20}",
        count in 1u32..,
    ) {
        let challenge = Challenge {
            realm,
            nonce: "n".to_owned(),
            opaque: Some("o\"p".to_owned()),
            algorithm: Algorithm::Sha512,
            names_algorithm: true,
            protection: Some(Protection::Authentication),
            stale: true,
        };
        let read = Challenge::parse(challenge.text().as_bytes());
        proptest::prop_assert_eq!(read.as_ref(), Some(&challenge));
        let answer = Answer::new(&challenge, &user, &password, ASKED, count, "c");
        let read = Answer::parse(answer.text().as_bytes());
        proptest::prop_assert_eq!(read.as_ref(), Some(&answer));
        proptest::prop_assert!(answer.proves(&password, "GET", b""));
    }
}

#[test]
fn a_nonce_lives_for_its_time_whatever_time_others_have() {
    let begin = Instant::now();
    let later = |seconds| begin + Duration::from_secs(seconds);
    let mut nonces = Nonces::new([1; 32]);
    let long = nonces.make(begin, "long", 7);
    let take = |nonces: &mut Nonces, seconds, count| {
        nonces.take(later(seconds), "long", &long, Some(count), LIFE)
    };
    assert_eq!(take(&mut nonces, 0, 1), Freshness::Good);
    let short = nonces.make(later(100), "short", 8);
    assert_eq!(
        nonces.take(later(100), "short", &short, Some(1), LIFE / 30),
        Freshness::Good
    );
    assert_eq!(take(&mut nonces, 101, 2), Freshness::Good);
    assert_eq!(take(&mut nonces, 101, 2), Freshness::Stale);
}
