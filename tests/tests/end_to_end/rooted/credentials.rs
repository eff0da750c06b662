//! Digest authentication and registration, against SIPp. Its scenarios fail on any message that
//! they do not expect and on credentials that are not good.

use std::time::Duration;

use nix::sys::signal::Signal;
use tests::{
    daemon::DaemonSettings,
    lab::{Party, wait_until},
    peers::Scenario,
    scene::{LIMIT, Part, Scene},
};

/// Whom the carrier's callers are: `CALLER` of the scenarios.
const CALLERS: &str = "authentication.algorithms = [\"SHA-256\", \"MD5\"]\n\
     authentication.user = [{ name = \"alice\", password = \"wonderland\" }]";
/// The same where SIPp, which knows MD5 alone, answers.
const CALLERS_BY_MD5: &str = "authentication.algorithms = [\"MD5\"]\n\
     authentication.user = [{ name = \"alice\", password = \"wonderland\" }]";
/// Who we are: `CALLED` of the scenarios.
const OURS: &str = "credentials.user = \"trunk-7\"\ncredentials.password = \"sesame\"";
const REGISTERED: &str = "credentials.user = \"trunk-7\"\ncredentials.password = \"sesame\"\n\
     registration.expires = 600";

fn part(scenario: Scenario) -> Part<'static> {
    Part::silent(scenario, Duration::from_secs(2))
}

fn scene(carrier_keys: &'static str, centre_keys: &'static str) -> Scene {
    Scene::new(&DaemonSettings {
        carrier_keys,
        centre_keys,
        ..DaemonSettings::default()
    })
}

fn metric(scene: &Scene, name: &str, labels: &[(&str, &str)]) -> f64 {
    scene
        .daemon
        .metric(&scene.lab, name, labels)
        .expect("metrics")
}

#[test]
fn a_call_is_authenticated_on_both_sides() {
    let scene = scene(CALLERS_BY_MD5, OURS);
    let mut called = scene.sipp_called(
        Party::ContactCentre,
        Party::ipv4,
        false,
        part(Scenario::AnswerUser),
    );
    let mut calling = scene.sipp_calls(
        Party::Carrier,
        Party::ipv4,
        5_070,
        "+15551000",
        part(Scenario::CallAsUser),
    );
    calling.finish(LIMIT).expect("the caller's scenario");
    called.finish(LIMIT).expect("the callee's scenario");
    scene.wait_no_call();
    let name = "trunkline_authentications_total";
    for (outcome, count) in [("challenged", 1.0), ("accepted", 1.0)] {
        let labels = [("trunk", "carrier"), ("outcome", outcome)];
        assert_eq!(metric(&scene, name, &labels), count, "{outcome}");
    }
    let log = scene.daemon.log();
    for password in ["wonderland", "sesame"] {
        assert!(!log.contains(password), "a password in the log");
        for party in [Party::Carrier, Party::ContactCentre] {
            let told = scene.messages(party);
            assert!(!told.iter().any(|message| message.text.contains(password)));
        }
    }
}

#[test]
fn a_stranger_s_call_goes_nowhere() {
    let scene = scene(CALLERS, "");
    let mut calling = scene.sipp_calls(
        Party::Carrier,
        Party::ipv4,
        5_070,
        "+15551000",
        part(Scenario::CallRefused(401)),
    );
    calling.finish(LIMIT).expect("the caller's scenario");
    scene.wait_no_call();
    let messages = scene.messages(Party::ContactCentre);
    assert!(messages.is_empty(), "nothing reaches the contact centre");
}

#[test]
fn we_are_registered_until_we_shut_down() {
    let scene = scene("", REGISTERED);
    let mut registrar = scene.sipp_called(
        Party::ContactCentre,
        Party::ipv4,
        false,
        part(Scenario::Register),
    );
    let labels = [("trunk", "contact-centre"), ("state", "registered")];
    let registered = wait_until(LIMIT, || {
        let value = scene
            .daemon
            .metric(&scene.lab, "trunkline_registration", &labels);
        value.is_ok_and(|value| value == 1.0)
    });
    assert!(registered, "{}", scene.daemon.log());
    // Renewed: the registrar has granted two seconds.
    let registers = |message: &tests::wire::Sighting| message.start_line().starts_with("REGISTER");
    // A challenge, its answer and a renewal.
    scene.wait_message(Party::ContactCentre, "the renewal", |message| {
        registers(message) && message.text.contains("\r\nCSeq: 3 REGISTER\r\n")
    });
    // The registrar has taken it: there are ten minutes until the next.
    scene.wait_message(Party::ContactCentre, "its answer", |message| {
        message.text.contains("\r\nCSeq: 3 REGISTER\r\n") && message.text.contains(";expires=600")
    });
    let trunks = scene.daemon.ask(&["trunks"]).expect("the trunks");
    let told = trunks
        .as_array()
        .expect("a list")
        .iter()
        .find(|trunk| trunk["name"] == "contact-centre")
        .expect("the trunk");
    assert_eq!(told["registration"]["state"], "registered", "{told}");
    assert_eq!(told["registration"]["address"], "sip:trunk-7@203.0.113.2");
    scene.daemon.signal(Signal::SIGTERM).expect("a signal");
    registrar.finish(LIMIT).expect("the registrar's scenario");
    scene.wait_message(Party::ContactCentre, "the end of it", |message| {
        registers(message) && message.text.contains("\r\nExpires: 0\r\n")
    });
}
