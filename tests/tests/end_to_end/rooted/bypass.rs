//! Media bypass: a call with ICE between Teams and a carrier.

use tests::{
    daemon::CallView,
    lab::wait_until,
    twin::report::{FRAGMENT, RESTARTED, Stage, StageSettings, bypassed, heard, restart},
};

use super::lasting::{SOON, on_its_path};

fn dropped(stage: &Stage) -> u64 {
    let calls: Vec<CallView> = stage.calls().expect("the daemon's calls");
    let streams = calls.iter().flat_map(|call| &call.streams);
    streams.map(|stream| stream.dropped).sum()
}

#[test]
fn the_nominated_pair_is_carried_by_the_xdp_program_and_a_restart_does_not_interrupt_it() {
    let stage = Stage::new(&StageSettings {
        teams: "ice = \"lite\"".to_owned(),
        ..StageSettings::default()
    })
    .expect("a stage");
    stage.wait_ready().expect("calls get through");
    let (teams, carrier, lite) = bypassed(&stage).expect("a call with ICE");
    // What comes from where nobody has checked is not heard.
    let begun = std::time::Instant::now();
    assert!(wait_until(SOON, || dropped(&stage) > 10));
    assert_eq!(carrier.media.heard(&teams.media, begun), 0);
    assert_eq!(teams.media.heard(&carrier.media, begun), 0);

    let nominate = |lite: &tests::twin::report::Lite, fragment| {
        lite.check(&teams.media, fragment, true, false)
            .expect("a good answer");
    };
    nominate(&lite, FRAGMENT);
    heard(&teams, &carrier).expect("both hear each other");
    on_its_path(&stage, "after the nomination");

    let after = restart(&teams).expect("ICE anew");
    assert!(after != lite);
    heard(&teams, &carrier).expect("the old pair goes on");
    on_its_path(&stage, "after the restart");
    nominate(&after, RESTARTED);
    heard(&teams, &carrier).expect("the new pair");
    on_its_path(&stage, "after the new nomination");
    teams.bye().expect("BYE");
}
