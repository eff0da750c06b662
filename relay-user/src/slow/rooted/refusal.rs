use super::seccomp::refuse;
use crate::slow::{STALE, SlowError, SlowEvents, Workers, WorkersConfig};

/// As under the default profile of a container.
#[test]
fn a_kernel_that_refuses_io_uring_is_named_with_its_remedy() {
    let refused = std::thread::spawn(|| {
        refuse(libc::SYS_io_uring_setup, None, libc::EPERM);
        Workers::start(
            WorkersConfig {
                workers: 2,
                addresses: Vec::new(),
                flows: 10,
                last_output: None,
                busy_poll: false,
                stale: STALE,
            },
            None,
            Vec::new(),
            SlowEvents::new(1),
        )
    });
    let error = refused.join().expect("it ends").expect_err("refused");
    assert!(matches!(error, SlowError::IoUringRefused(_)), "{error:?}");
    let text = error.to_string();
    for named in ["seccomp", "kernel.io_uring_disabled", "io_uring_setup"] {
        assert!(text.contains(named), "{text}");
    }
}
