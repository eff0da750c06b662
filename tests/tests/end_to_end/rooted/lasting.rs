//! A call that lasts: session refreshes, a sequence number that wraps, new keys.

use std::time::Duration;

use tests::{
    daemon::{CallView, StreamView},
    lab::wait_until,
    twin::report::{Stage, StageSettings, connect_with, heard},
};

/// For what comes at once; a failure, not a measure.
pub(super) const SOON: Duration = Duration::from_secs(20);
/// The shortest session timer that RFC 4028 lets one ask for, refreshed by the peer that says so.
const SESSION: &str = "90;refresher=uac";
/// A sequence number that wraps within a second.
const WRAPS_SOON: u16 = 65_500;

/// The one call that is up.
fn call(stage: &Stage) -> CallView {
    let mut calls = stage.calls().expect("the daemon's calls");
    calls.retain(|call| call.answered);
    assert_eq!(calls.len(), 1, "{calls:?}");
    calls.remove(0)
}

/// Waits until the kernel relays both directions, whatever the workers had to learn before, and shows
/// that it relays another second of them alone.
pub(super) fn on_its_path(stage: &Stage, moment: &str) {
    by_kernel(stage, moment);
    let (before, after) = by_kernel(stage, moment);
    for (after, before) in after.iter().zip(&before) {
        assert_eq!((after.path.as_str(), &after.reason), ("xdp", &None));
        let workers = after.packets_userspace - before.packets_userspace;
        assert_eq!(workers, 0, "{moment}: packets by the workers");
    }
}

/// Waits until the kernel has relayed a second of both directions; the streams before and after.
fn by_kernel(stage: &Stage, moment: &str) -> (Vec<StreamView>, Vec<StreamView>) {
    let before = call(stage).streams;
    let carried = wait_until(SOON, || {
        let now = call(stage).streams;
        now.len() == 2
            && now
                .iter()
                .zip(&before)
                .all(|(now, before)| now.packets_xdp >= before.packets_xdp + 50)
    });
    let after = call(stage).streams;
    assert!(carried, "{moment}: {before:?}, then {after:?}");
    (before, after)
}

#[test]
fn a_call_outlives_refreshes_a_wrapped_sequence_and_new_keys() {
    let stage = Stage::new(&StageSettings {
        carrier: "sip.session_expires = 90\n".to_owned(),
        ..StageSettings::default()
    })
    .expect("a stage");
    stage.wait_ready().expect("calls get through");
    let (outgoing, incoming) = stage
        .teams_calls_carrier(|invite| {
            invite
                .headers
                .retain(|(name, _)| name != "Session-Expires" && name != "Min-SE");
            let timer = ("Session-Expires".to_owned(), SESSION.to_owned());
            invite.headers.push(timer);
        })
        .expect("an INVITE at the carrier");
    let offered = incoming.invite().header("Session-Expires");
    assert_eq!(offered, Some("90"), "towards the carrier");
    let agreed = [
        ("Session-Expires", "90;refresher=uas"),
        ("Require", "timer"),
    ];
    let (teams, carrier) = connect_with(outgoing, move || {
        incoming.answer_with(None, &agreed, |_| {})
    })
    .expect("a call");
    let timer = teams.opening.message.header("Session-Expires");
    assert_eq!(timer, Some(SESSION), "towards Teams");
    let both_hear = |moment: &str| {
        heard(&teams, &carrier).unwrap_or_else(|error| panic!("{moment}: {error}"));
        on_its_path(&stage, moment);
    };
    let wrap = |moment: &str| {
        for media in [&teams.media, &carrier.media] {
            // Forward by less than half the space at a time: more would look like the past.
            let stops = (media.sequence()..WRAPS_SOON).step_by(20_000).skip(1);
            for sequence in stops.chain([WRAPS_SOON]) {
                media.set_sequence(sequence);
                heard(&teams, &carrier).unwrap_or_else(|error| panic!("{moment}: {error}"));
            }
        }
        let wrapped = || teams.media.cycles() == 1;
        assert!(wait_until(SOON, wrapped), "{moment}: Teams' ROC");
        both_hear(moment);
    };
    let refresh = [("Session-Expires", SESSION), ("Supported", "timer")];

    both_hear("at first");
    wrap("over the wrap");
    // Its sequence number has wrapped as well, whatever number it began with.
    let received = teams.media.cycles_received();
    assert_eq!(received, 1, "the ROC of what comes to Teams");

    let answer = teams.refresh(&refresh).expect("Teams' refresh");
    assert_eq!(answer.header("Session-Expires"), Some(SESSION));
    both_hear("after Teams' refresh");
    let answer = carrier.refresh(&refresh).expect("the carrier's refresh");
    assert_eq!(answer.header("Session-Expires"), Some(SESSION));
    both_hear("after the carrier's refresh");
    assert_eq!(
        (teams.media.cycles(), teams.media.cycles_received()),
        (1, 1),
        "the ROCs go on over refreshes"
    );

    teams.renew_keys();
    teams.reinvite(&refresh, |_| {}).expect("new keys");
    assert_eq!(teams.media.cycles(), 0, "a new key begins at ROC 0");
    both_hear("after new keys");
    wrap("over the wrap under the new keys");

    let refused = teams.media.refused();
    assert!(refused < 5, "{refused} packets were not authentic");
    assert!(!teams.has_ended() && !carrier.has_ended());
    teams.bye().expect("BYE");
    let gone = wait_until(SOON, || stage.calls().is_ok_and(|calls| calls.is_empty()));
    assert!(gone, "the call is gone: {:?}", stage.calls());
}
