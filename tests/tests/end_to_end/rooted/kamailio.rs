//! Kamailio as a peer over TLS: a proxy not written here, with certificates both ways.

use tests::{
    lab::wait_until,
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
    // Kamailio answers for itself when its TLS connection is refused.
    assert_ne!(stage.asks(End::Agent).ok().flatten(), Some(200));
    let mut call = stage.dials(End::Carrier, "+16660001").expect("an INVITE");
    let refusal = call.refused(LIMIT).expect("refused");
    assert_eq!(refusal.status(), Some(503), "{}", refusal.start);
    let counted = stage.discards("certificate-name").expect("the metrics");
    assert!(counted >= 2, "{counted}, {}", stage.log());
}
