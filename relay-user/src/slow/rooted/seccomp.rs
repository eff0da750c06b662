//! A kernel that refuses something, by a filter on system calls.

/// On the calling thread and those that it starts, the call fails with the error; only where its
/// second argument is the one given, if one is.
pub(super) fn refuse(call: libc::c_long, second: Option<u32>, error: i32) {
    let instruction = |code: u32, jt, jf, k| libc::sock_filter {
        code: code as u16,
        jt,
        jf,
        k,
    };
    // Of what a filter sees (struct seccomp_data): the call's number, and the second argument.
    let (number, argument) = (0, 24);
    let load = |offset| instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, offset);
    let unless =
        |value, skip| instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, skip, value);
    let end = |verdict| instruction(libc::BPF_RET | libc::BPF_K, 0, 0, verdict);
    let mut filter = vec![
        load(number),
        unless(call as u32, if second.is_some() { 3 } else { 1 }),
    ];
    if let Some(second) = second {
        filter.extend([load(argument), unless(second, 1)]);
    }
    filter.extend([
        end(libc::SECCOMP_RET_ERRNO | error as u32),
        end(libc::SECCOMP_RET_ALLOW),
    ]);
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
