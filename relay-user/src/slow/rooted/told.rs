//! What a worker is told, and the packets that come after it.

use std::{
    fs, hint,
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use super::lab::{Lab, config, in_time};
use crate::{
    done::Done,
    measure::pin,
    slow::tests::{OURS_CALLEE, OURS_CALLER, at, caller_to_callee, rtp},
};

/// Where the worker runs.
const CPU: usize = 0;

/// The worker has been told of the flow and the flow's first packet has come before it looks at
/// either, since it does not get a processor. Linux 6.12 hands it both at once, 6.18 one by one.
#[test]
fn what_was_told_before_a_packet_came_holds_for_it() {
    let lab = Lab::on_cpu(CPU, config(1));
    let (caller, callee) = (lab.caller(), lab.callee());
    for number in 0..10 {
        while_busy(|| {
            lab.install(OURS_CALLER, caller_to_callee());
            caller.send(OURS_CALLER, &rtp(0, number, 0, 7));
        });
        callee.receive(OURS_CALLEE);
        lab.workers().remove(&at(OURS_CALLER)).expect("removed");
    }
}

/// Does something while the CPU runs nothing else.
fn while_busy(task: impl FnOnce()) {
    let (busy, done) = (AtomicBool::new(false), AtomicBool::new(false));
    thread::scope(|scope| {
        let _end = Done(&done);
        scope.spawn(|| {
            pin(0, CPU).expect("a CPU");
            let thread = fs::read_link("/proc/thread-self").expect("a thread");
            let number = thread.file_name().expect("its number");
            let status = Command::new("chrt")
                .args(["--fifo", "--pid", "1"])
                .arg(number)
                .status();
            assert!(status.expect("chrt").success());
            busy.store(true, Ordering::Release);
            while !done.load(Ordering::Acquire) {
                hint::spin_loop();
            }
        });
        assert!(in_time(|| busy.load(Ordering::Acquire)));
        task();
    });
}
