//! The end of a thread that a test has started beside itself.

use std::sync::atomic::{AtomicBool, Ordering};

/// Ends another thread's loop when it is dropped: also by a failed assertion, for a scope waits for
/// its threads.
pub(crate) struct Done<'a>(pub(crate) &'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}
