use crate::slow::{STALE, SlowError, SlowEvents, Workers, WorkersConfig};

/// A seccomp filter on the calling thread and those that it starts: io_uring_setup fails with
/// EPERM, as under the default profile of a container.
fn refuse_io_uring() {
    let instruction = |code: u32, jt, jf, k| libc::sock_filter {
        code: code as u16,
        jt,
        jf,
        k,
    };
    let mut filter = [
        // The number of the call is the first word of what a filter sees.
        instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        instruction(
            libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K,
            0,
            1,
            libc::SYS_io_uring_setup as u32,
        ),
        instruction(
            libc::BPF_RET | libc::BPF_K,
            0,
            0,
            libc::SECCOMP_RET_ERRNO | libc::EPERM as u32,
        ),
        instruction(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog {
        len: filter.len() as u16,
        filter: filter.as_mut_ptr(),
    };
    // SAFETY: the program points to live instructions, which the kernel checks and copies.
    let result = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        libc::prctl(
            libc::PR_SET_SECCOMP,
            libc::SECCOMP_MODE_FILTER,
            std::ptr::from_ref(&program),
        )
    };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
}

#[test]
fn a_kernel_that_refuses_io_uring_is_named_with_its_remedy() {
    let refused = std::thread::spawn(|| {
        refuse_io_uring();
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
