//! Programs that the kernel did not look at to the end.

use aya::programs::ProgramError;

/// How often a program is loaded at most.
const ATTEMPTS: usize = 5;

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

#[cfg(test)]
mod tests {
    use std::io;

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
}
