//! A carrier that is known by SRV records: where calls to it go, and what becomes of them when
//! peers fail or the records change.

use std::time::Duration;

use tests::{
    lab::wait_until,
    twin::serviced::{Attempt, NOBODY, Serviced, TAKEN},
};

/// What takes an interval of OPTIONS or some.
const SOON: Duration = Duration::from_secs(30);
/// As long as an answer of the resolver's is kept, and some.
const KEPT: Duration = Duration::from_secs(60);

const RECORDS: [(usize, u16, u16); 3] = [(0, 10, 60), (1, 10, 40), (2, 20, 1)];

fn attempt(carrier: &Serviced) -> Attempt {
    carrier
        .call()
        .unwrap_or_else(|error| panic!("{error}\n{}", carrier.log()))
}

#[test]
fn a_call_goes_through_the_records_in_their_order_over_udp() {
    goes_through_the_records("udp");
}

#[test]
fn a_call_goes_through_the_records_in_their_order_over_tcp() {
    goes_through_the_records("tcp");
}

fn goes_through_the_records(transport: &str) {
    // More than a busy machine takes for an answer.
    let keys = "sip.answer_seconds = 5\n";
    let carrier = Serviced::new(transport, &RECORDS, keys).expect("a carrier");
    // One priority is shared; nobody of the next has a call.
    let mut firsts = [0; 3];
    for _ in 0..40 {
        let call = attempt(&carrier);
        assert_eq!((call.tried.len(), call.status), (1, TAKEN), "{call:?}");
        firsts[call.tried[0]] += 1;
    }
    // With 60 and 40 of 100, chance makes either 0 of 40 once in 700 million times.
    assert!(firsts[0] > 0 && firsts[1] > 0, "{firsts:?}");
    assert_eq!(firsts[2], 0);

    // Both of the first priority are silent: the next has the call, after both.
    carrier.set_silent(0, true);
    carrier.set_silent(1, true);
    let mut call = attempt(&carrier);
    assert_eq!(
        (call.tried.pop(), call.status),
        (Some(2), TAKEN),
        "{call:?}"
    );
    call.tried.sort_unstable();
    assert_eq!(call.tried, [0, 1]);

    // Known to be down, they are tried after the one that is up.
    let call = attempt(&carrier);
    assert_eq!((call.tried, call.status), (vec![2], TAKEN));
    assert_eq!(carrier.is_up(0).expect("metrics"), Some(false));
    assert_eq!(carrier.is_up(2).expect("metrics"), Some(true));
}

#[test]
fn a_peer_that_takes_no_connection_leaves_its_calls_to_the_next() {
    let records = [(NOBODY, 10, 1), (1, 20, 1), (2, 30, 1)];
    let carrier = Serviced::new("tcp", &records, "").expect("a carrier");
    let call = attempt(&carrier);
    assert_eq!((call.tried, call.status), (vec![1], TAKEN));
    assert_eq!(carrier.is_up(NOBODY).expect("metrics"), Some(false));
    assert_eq!(carrier.is_up(1).expect("metrics"), Some(true));
}

#[test]
fn options_find_out_who_is_there_and_records_change_under_way() {
    let keys = "options.interval_seconds = 1\noptions.timeout_seconds = 5\n";
    let carrier = Serviced::new("udp", &RECORDS, keys).expect("a carrier");
    let told = |wanted: &[(usize, &str)]| {
        let is = || {
            let states = carrier.states().expect("trunks");
            states
                .iter()
                .map(|(peer, state)| (*peer, state.as_str()))
                .eq(wanted.iter().copied())
        };
        assert!(
            wait_until(KEPT, is),
            "{:?}, not {wanted:?}\n{}",
            carrier.states(),
            carrier.log()
        );
    };
    told(&[(0, "1.10 60 up"), (1, "1.10 40 up"), (2, "1.20 1 up")]);

    // The first priority dies: no call is sent there.
    carrier.set_silent(0, true);
    carrier.set_silent(1, true);
    told(&[(0, "1.10 60 down"), (1, "1.10 40 down"), (2, "1.20 1 up")]);
    let call = attempt(&carrier);
    assert_eq!((call.tried, call.status), (vec![2], TAKEN));

    // All are dead: the call is refused, and nobody is asked for it.
    carrier.set_silent(2, true);
    told(&[(0, "1.10 60 down"), (1, "1.10 40 down"), (2, "1.20 1 down")]);
    let call = attempt(&carrier);
    assert_eq!((call.tried, call.status), (vec![], 503));

    // The records lead elsewhere: calls follow without a restart.
    carrier.serve(&[(3, 5, 0), (2, 20, 1)]);
    told(&[(2, "1.20 1 down"), (3, "1.5 0 up")]);
    let call = attempt(&carrier);
    assert_eq!((call.tried, call.status), (vec![3], TAKEN));
    assert_eq!(carrier.is_up(0).expect("metrics"), None, "is forgotten");

    // They are gone: what was known of them stays.
    carrier.serve(&[]);
    assert!(
        wait_until(KEPT, || carrier.log().contains("what is known of it stays")),
        "{}",
        carrier.log()
    );
    let call = attempt(&carrier);
    assert_eq!((call.tried, call.status), (vec![3], TAKEN));

    // A peer that comes back has its share again.
    carrier.serve(&RECORDS);
    carrier.set_silent(0, false);
    told(&[(0, "1.10 60 up"), (1, "1.10 40 down"), (2, "1.20 1 down")]);
    let up = || carrier.is_up(0).expect("metrics") == Some(true);
    assert!(wait_until(SOON, up));
    let call = attempt(&carrier);
    assert_eq!((call.tried, call.status), (vec![0], TAKEN));
}
