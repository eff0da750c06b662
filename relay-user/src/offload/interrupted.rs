//! Programs that the kernel did not look at, or run, to the end.

use std::io;

use aya::programs::ProgramError;

/// How often a program is loaded at most.
const ATTEMPTS: usize = 5;
/// How often a measurement is begun at most.
const RUNS: usize = 100;

/// Loads a program by `load`, again when a signal came while the verifier was at it.
///
/// # Errors
/// The last attempt's.
pub(crate) fn load_again(
    mut load: impl FnMut() -> Result<(), ProgramError>,
) -> Result<(), ProgramError> {
    for _ in 1..ATTEMPTS {
        match load() {
            Err(ProgramError::LoadError { io_error, .. })
                if io_error.raw_os_error() == Some(libc::EAGAIN) => {}
            result => return result,
        }
    }
    load()
}

/// What a test run of many turns gave; nothing when a signal broke it off between two of them.
///
/// # Errors
/// Any other of the run.
pub(crate) fn unless_interrupted<T>(
    result: Result<T, ProgramError>,
) -> Result<Option<T>, ProgramError> {
    match result {
        Err(ProgramError::SyscallError(error))
            if error.io_error.kind() == io::ErrorKind::Interrupted =>
        {
            Ok(None)
        }
        result => result.map(Some),
    }
}

/// Measures by `run`, from the beginning again when it was interrupted; nothing when it always is.
///
/// # Errors
/// The first one of `run`.
pub(crate) fn run_again<T, E>(
    mut run: impl FnMut() -> Result<Option<T>, E>,
) -> Result<Option<T>, E> {
    for _ in 0..RUNS {
        if let Some(whole) = run()? {
            return Ok(Some(whole));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use aya::sys::SyscallError;
    use aya_obj::VerifierLog;

    use super::*;

    /// How often a kernel is asked that gives an error so often, and whether it took the program.
    fn asked(error: i32, times: usize) -> (usize, bool) {
        let mut asked = 0;
        let result = load_again(|| {
            asked += 1;
            if asked > times {
                return Ok(());
            }
            Err(ProgramError::LoadError {
                io_error: io::Error::from_raw_os_error(error),
                verifier_log: VerifierLog::new(String::new()),
            })
        });
        (asked, result.is_ok())
    }

    #[test]
    fn a_program_is_loaded_again_a_few_times_where_the_kernel_was_interrupted() {
        assert_eq!(asked(libc::EAGAIN, 0), (1, true));
        assert_eq!(asked(libc::EAGAIN, 4), (5, true));
        assert_eq!(asked(libc::EAGAIN, usize::MAX), (5, false));
    }

    #[test]
    fn a_refusal_is_final() {
        for error in [libc::EACCES, libc::EINVAL, libc::ENOMEM] {
            assert_eq!(asked(error, 1), (1, false));
        }
    }

    fn broken_off(error: i32) -> Result<u32, ProgramError> {
        Err(ProgramError::SyscallError(SyscallError {
            call: "bpf_prog_test_run",
            io_error: io::Error::from_raw_os_error(error),
        }))
    }

    #[test]
    fn a_run_that_a_signal_broke_off_begins_again() {
        let mut runs = 0;
        let time = run_again(|| {
            runs += 1;
            unless_interrupted(if runs < 3 {
                broken_off(libc::EINTR)
            } else {
                Ok(runs)
            })
        });
        assert_eq!(time.expect("no other error"), Some(3));
        let never = run_again(|| unless_interrupted(broken_off(libc::EINTR)));
        assert_eq!(never.expect("no other error"), None);
        assert!(run_again(|| unless_interrupted(broken_off(libc::EINVAL))).is_err());
    }
}
