//! Keeping processors from halting.

use std::{
    hint,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
};

use super::{Failure, pin};

/// Threads that run where nothing else does. A virtual processor that halts is given back to its
/// host and takes its time to come again, sometimes longer than a device's ring holds out; where
/// real ones serve media, they are configured not to sleep deeply either. Whatever else is to run
/// is put before them at once. They end when this is dropped.
pub struct Awake {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Awake {
    /// Keeps `processors` awake.
    ///
    /// # Errors
    /// When there is no such processor.
    pub fn keep(processors: &[usize]) -> Result<Self, Failure> {
        let mut awake = Self {
            stop: Arc::default(),
            threads: Vec::new(),
        };
        for processor in processors.iter().copied() {
            let stop = Arc::clone(&awake.stop);
            let (tell, told) = std::sync::mpsc::sync_channel(1);
            awake.threads.push(thread::spawn(move || {
                let ready = pin(0, processor).and_then(|()| yield_to_all());
                let idle = ready.is_ok();
                let _ = tell.send(ready);
                while idle && !stop.load(Ordering::Relaxed) {
                    hint::spin_loop();
                }
            }));
            told.recv()??;
        }
        Ok(awake)
    }
}

impl Drop for Awake {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Lets the calling thread run only where nobody else wants to.
fn yield_to_all() -> Result<(), Failure> {
    let priority = libc::sched_param { sched_priority: 0 };
    // SAFETY: the structure lives over the call, which only reads it.
    let set = unsafe { libc::sched_setscheduler(0, libc::SCHED_IDLE, &raw const priority) };
    if set != 0 {
        return Err(format!("let a thread be idle: {}", std::io::Error::last_os_error()).into());
    }
    Ok(())
}
