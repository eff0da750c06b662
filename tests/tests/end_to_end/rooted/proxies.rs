//! All three proxies of Teams away, then back.

use std::time::Duration;

use tests::{
    lab::wait_until,
    twin::report::{Service, Stage, StageSettings, heard},
};

/// For what comes at once; a failure, not a measure.
const SOON: Duration = Duration::from_secs(20);
/// How often each proxy is asked, in seconds.
const INTERVAL: u32 = 2;

/// The address of Teams where a call has a leg, as `trunkline trunks` tells it, with the name in
/// its certificate and its priority.
fn busy(stage: &Stage) -> Vec<String> {
    let trunks = stage.ask("trunks").expect("the daemon's trunks");
    let trunks = trunks.as_array().expect("a list").iter();
    let teams = trunks
        .filter(|trunk| trunk["name"] == "teams0")
        .flat_map(|trunk| trunk["addresses"].as_array().expect("addresses"));
    let text =
        |address: &serde_json::Value, key: &str| address[key].as_str().unwrap_or("-").to_owned();
    teams
        .filter(|address| address["calls"] != 0)
        .map(|address| {
            ["address", "name", "priority"]
                .map(|key| text(address, key))
                .join(" ")
        })
        .collect()
}

#[test]
fn proxies_that_srv_records_name_are_known_by_the_configured_name() {
    let stage = Stage::new(&StageSettings {
        options: Some(INTERVAL),
        // The certificates of the twin hold this name, and none of the targets'.
        addresses: Some("\"sip2.pstnhub.microsoft.com\""),
        services: vec![(
            "_sips._tcp.sip2.pstnhub.microsoft.com".to_owned(),
            vec![
                Service::tls(20, 0, "api-du-a-euwe.pstnhub.microsoft.com"),
                Service::tls(10, 5, "sip3.pstnhub.microsoft.com"),
            ],
        )],
        ..StageSettings::default()
    })
    .expect("a stage");
    let (carrier, teams) = stage.carrier_to_teams().expect("a call");
    heard(&carrier, &teams).expect("sound both ways");
    let name = "sip2.pstnhub.microsoft.com";
    assert_eq!(busy(&stage), [format!("192.0.2.4:5061 {name} 1.10")]);
    carrier.bye().expect("the carrier hangs up");
    teams.wait_bye(SOON).expect("Teams hears of it");
    // The record of the next priority takes over.
    stage.set_proxy_open(2, false);
    let (carrier, teams) = stage.carrier_to_teams().expect("a call elsewhere");
    heard(&carrier, &teams).expect("sound both ways");
    assert_eq!(busy(&stage), [format!("192.0.2.2:5061 {name} 1.20")]);
}

/// The state of each of Teams' addresses, as `trunkline trunks` tells it.
fn states(stage: &Stage) -> Vec<String> {
    let trunks = stage.ask("trunks").expect("the daemon's trunks");
    let trunks = trunks.as_array().expect("a list");
    let teams = trunks
        .iter()
        .find(|trunk| trunk["name"] == "teams0")
        .expect("Teams' trunk");
    let addresses = teams["addresses"].as_array().expect("addresses");
    let state = |address: &serde_json::Value| address["state"].as_str().unwrap_or("-").to_owned();
    addresses.iter().map(state).collect()
}

fn all(stage: &Stage, state: &str) -> bool {
    let states = states(stage);
    states.len() == 3 && states.iter().all(|it| it == state)
}

#[test]
fn with_all_proxies_away_calls_are_refused_at_once_and_come_back_with_them() {
    let stage = Stage::new(&StageSettings {
        options: Some(INTERVAL),
        teams: "sip.unavailable_code = 480\n".to_owned(),
        ..StageSettings::default()
    })
    .expect("a stage");
    stage.wait_ready().expect("calls get through");
    assert!(
        wait_until(SOON, || all(&stage, "up")),
        "{:?}",
        states(&stage)
    );
    let (carrier, teams) = stage.carrier_to_teams().expect("a call");
    heard(&carrier, &teams).expect("sound both ways");

    for proxy in 0..3 {
        stage.set_proxy_open(proxy, false);
    }
    // OPTIONS find that out, without a call's help.
    assert!(
        wait_until(SOON, || all(&stage, "down")),
        "{:?}\n{}",
        states(&stage),
        stage.log()
    );
    let sent = stage.log().matches(" -> teams0 sent to ").count();
    assert!(sent > 0, "what is counted is logged:\n{}", stage.log());
    for _ in 0..5 {
        let refusal = stage.refused_by_teams(SOON);
        assert_eq!(refusal.expect("a refusal").status(), Some(480));
    }
    let log = stage.log();
    assert_eq!(
        log.matches(" -> teams0 sent to ").count(),
        sent,
        "no address was tried:\n{log}"
    );
    heard(&carrier, &teams).expect("sound both ways with no proxy");
    let calls = stage.calls().expect("the daemon's calls");
    let up = calls.iter().filter(|call| call.answered).count();
    assert_eq!(up, 1, "{calls:?}");

    for proxy in 0..3 {
        stage.set_proxy_open(proxy, true);
    }
    // The call that shows it has its time, too.
    stage
        .wait_first(Duration::from_secs(INTERVAL.into()) + SOON)
        .expect("calls at the first proxy within an interval");
    assert!(
        wait_until(SOON, || all(&stage, "up")),
        "{:?}",
        states(&stage)
    );
    heard(&carrier, &teams).expect("sound both ways afterwards");
    carrier.bye().expect("the carrier hangs up");
    teams.wait_bye(SOON).expect("Teams hears of it");
    // One line when each went, one when it came back, whatever number of OPTIONS failed.
    let log = stage.log();
    assert_eq!(log.matches(" is out of service: ").count(), 3, "{log}");
    assert_eq!(log.matches(" is in service again").count(), 3, "{log}");
}
