//! Nothing is left behind: not after a failure, not after Ctrl-C, and what a killed run left is
//! taken away by the next one.

use std::{
    collections::HashSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, Once, PoisonError},
    thread,
};

use nix::{sys::signal, unistd::Pid};
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    iterator::Signals,
};

static NAMESPACES: Mutex<Vec<String>> = Mutex::new(Vec::new());
static DIRECTORIES: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());
static START: Once = Once::new();

/// What every name of a run begins with, before the process id.
pub(super) const PREFIX: &str = "tl-";

pub(super) fn register_namespace(name: &str) {
    start();
    lock(&NAMESPACES).push(name.to_owned());
}

pub(super) fn register_directory(path: &Path) {
    start();
    lock(&DIRECTORIES).push(path.to_owned());
}

pub(super) fn remove_namespace(name: &str) {
    kill_all(name);
    let _ = Command::new("ip").args(["netns", "del", name]).output();
    let _ = fs::remove_dir_all(configuration(name));
    lock(&NAMESPACES).retain(|known| known != name);
}

/// Where `ip netns exec` looks for files to put over those of `/etc`.
pub(super) fn configuration(namespace: &str) -> PathBuf {
    Path::new("/etc/netns").join(namespace)
}

pub(super) fn remove_directory(path: &Path) {
    let _ = fs::remove_dir_all(path);
    lock(&DIRECTORIES).retain(|known| known != path);
}

/// Leaves a directory where it is.
pub(super) fn keep_directory(path: &Path) {
    lock(&DIRECTORIES).retain(|known| known != path);
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn kill_all(namespace: &str) {
    let own = std::process::id();
    if let Ok(output) = Command::new("ip")
        .args(["netns", "pids", namespace])
        .output()
    {
        for pid in String::from_utf8_lossy(&output.stdout).split_whitespace() {
            if let Ok(pid) = pid.parse::<u32>()
                && pid != own
                && let Ok(pid) = i32::try_from(pid)
            {
                let _ = signal::kill(Pid::from_raw(pid), signal::Signal::SIGKILL);
            }
        }
    }
}

fn start() {
    START.call_once(|| {
        sweep();
        let Ok(mut signals) = Signals::new([SIGINT, SIGTERM, SIGHUP]) else {
            return;
        };
        thread::spawn(move || {
            if let Some(signal) = signals.forever().next() {
                eprintln!("\ninterrupted: taking down what was set up");
                let namespaces = lock(&NAMESPACES).clone();
                for namespace in namespaces {
                    remove_namespace(&namespace);
                }
                let directories = lock(&DIRECTORIES).clone();
                for directory in directories {
                    remove_directory(&directory);
                }
                std::process::exit(128 + signal);
            }
        });
    });
}

/// Takes away namespaces whose run is no longer alive.
fn sweep() {
    let Ok(entries) = fs::read_dir("/run/netns") else {
        return;
    };
    let names: HashSet<String> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    for name in names {
        let owner = name
            .strip_prefix(PREFIX)
            .and_then(|rest| rest.split('-').next())
            .and_then(|pid| pid.parse::<u32>().ok());
        if let Some(pid) = owner
            && !Path::new("/proc").join(pid.to_string()).exists()
        {
            remove_namespace(&name);
        }
    }
}
