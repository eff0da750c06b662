//! Kamailio as a peer over TLS: a proxy not written here, with certificates both ways.

use tests::{
    lab::wait_until,
    peers::Proofs,
    twin::proxied::{End, LIMIT, Proxied},
};

const PROXY: &str = "proxy.example.com";

#[test]
fn calls_go_both_ways_through_kamailio_and_stay_on_its_route() {
    let stage = Proxied::new(PROXY).expect("a stage");
    for (from, number) in [(End::Carrier, "+16660001"), (End::Agent, "+17770001")] {
        let (caller, callee) = stage.call(from, number).expect("a call");
        // Both ends offer anew, and the callee hangs up, who is each of them once: by Record-Route.
        let hold = caller.reinvite(&[], |it| it.direction = "sendonly");
        hold.expect("held by the caller");
        let back = caller.reinvite(&[], |it| it.direction = "sendrecv");
        back.expect("taken back by the caller");
        let again = callee.reinvite(&[], |_| {});
        again.expect("offered anew by the callee");
        let heard = tests::twin::proxied::hear(&caller, &callee);
        heard.expect("both hear each other after the re-INVITEs");
        callee.bye().expect("hung up by the callee");
        caller.wait_bye(LIMIT).expect("the BYE at the caller");
        let over = wait_until(LIMIT, || stage.calls().is_ok_and(|calls| calls == 0));
        assert!(over, "no call is left");
    }
    let said = stage.kamailio.text();
    for method in ["INVITE", "ACK", "BYE"] {
        let over_tls = said
            .lines()
            .filter(|line| line.contains(&format!("{method} of ")) && line.contains("by tls"))
            .count();
        assert!(over_tls > 0, "no {method} came over TLS:\n{said}");
    }
    // The name in our certificate, as Kamailio's OpenSSL has verified it.
    assert!(said.contains("by tls, sbc.example.com"), "{said}");
}

#[test]
fn options_are_answered_both_ways() {
    let stage = Proxied::new(PROXY).expect("a stage");
    let asked = stage.kamailio.wait_for("OPTIONS of", 1, LIMIT * 4);
    assert!(
        asked
            .expect("asked by us")
            .contains("by tls, sbc.example.com")
    );
    let up = || stage.proxy_state().is_ok_and(|state| state == "up: 200");
    assert!(
        wait_until(LIMIT, up),
        "Kamailio's answer: {:?}",
        stage.proxy_state()
    );
    let status = stage.asks(End::Agent).expect("an answer by Kamailio's way");
    assert_eq!(status, Some(200));
}

#[test]
fn kamailio_with_another_name_is_turned_down_both_ways() {
    let stage = Proxied::new("other.example.com").expect("a stage");
    // Kamailio has nowhere to send it when its TLS connection is refused, and need not say so.
    assert_ne!(stage.asks(End::Agent).ok().flatten(), Some(200));
    let asked = stage.kamailio.wait_for(" by udp", 1, LIMIT);
    assert!(asked.expect("asked by the agent").contains("OPTIONS of"));
    let mut call = stage.dials(End::Carrier, "+16660001").expect("an INVITE");
    let refusal = call.refused(LIMIT).expect("refused");
    assert_eq!(refusal.status(), Some(503), "{}", refusal.start);
    let counted = stage.discards("certificate-name").expect("the metrics");
    assert!(counted >= 2.0, "{counted}, {}", stage.log());
}

/// What we prove to Kamailio with.
const OURS: &str = "credentials.user = \"trunk-7\"\ncredentials.password = \"sesame\"\n";

#[test]
fn a_challenge_of_kamailio_s_is_answered_by_the_algorithm_that_it_names() {
    for algorithm in ["SHA-256", "MD5"] {
        let keys = format!("{OURS}registration.expires = 600\n");
        let stage = Proxied::with(PROXY, Proofs::Demanded(algorithm), &keys).expect("a stage");
        // 407 to the INVITE, 401 to the REGISTER.
        let (caller, callee) = stage.call(End::Carrier, "+16660001").expect("a call");
        caller.bye().expect("hung up");
        callee.wait_bye(LIMIT).expect("the BYE behind Kamailio");
        for method in ["INVITE", "REGISTER"] {
            let proven = wait_until(LIMIT, || is_proven(&stage, method, algorithm));
            assert!(proven, "{method}: {}", stage.kamailio.text());
        }
    }
}

fn is_proven(stage: &Proxied, method: &str, algorithm: &str) -> bool {
    let said = stage.kamailio.text();
    let proven = format!("proven by {algorithm}");
    said.lines()
        .any(|line| line.contains(&format!("{method} of ")) && line.ends_with(&proven))
}

#[test]
fn kamailio_takes_no_wrong_password() {
    let wrong = OURS.replace("sesame", "mustard");
    let stage = Proxied::with(PROXY, Proofs::Demanded("SHA-256"), &wrong).expect("a stage");
    let mut call = stage.dials(End::Carrier, "+16660001").expect("an INVITE");
    let refusal = call.refused(LIMIT).expect("refused");
    assert_eq!(refusal.status(), Some(500), "{}", refusal.start);
    assert!(!is_proven(&stage, "INVITE", "SHA-256"));
}

/// Kamailio's `uac` knows MD5 alone, and reads the first challenge of a response and no other.
#[test]
fn kamailio_answers_our_challenge_where_md5_stands_first() {
    for (algorithms, is_answered) in [
        ("\"MD5\", \"SHA-256\"", true),
        ("\"SHA-256\", \"MD5\"", false),
    ] {
        let keys = format!(
            "authentication.algorithms = [{algorithms}]\n\
             authentication.user = [{{ name = \"trunk-7\", password = \"sesame\" }}]\n"
        );
        let stage = Proxied::with(PROXY, Proofs::Given, &keys).expect("a stage");
        if is_answered {
            stage.call(End::Agent, "+17770001").expect("a call");
        } else {
            let mut call = stage.dials(End::Agent, "+17770001").expect("an INVITE");
            let refusal = call.refused(LIMIT).expect("refused");
            assert_eq!(refusal.status(), Some(401), "{}", refusal.start);
        }
        let accepted = stage.authentications("accepted").expect("the metrics");
        assert_eq!(accepted, f64::from(u8::from(is_answered)));
    }
}
