//! Nothing is left behind: not after a failure, not after Ctrl-C, and what a killed run left is
//! taken away by the next one.

use std::{
    env, fs,
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

/// What every name of a run begins with; its process id follows.
pub(super) const PREFIX: &str = "tl-";
/// A file in directories that are left for a person to look into.
const KEPT: &str = "kept";

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
    let _ = fs::write(path.join(KEPT), "");
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

/// Takes away namespaces and directories whose run is no longer alive.
fn sweep() {
    for name in orphans(Path::new("/run/netns")) {
        remove_namespace(&name);
    }
    let directory = env::temp_dir();
    for name in orphans(&directory) {
        let path = directory.join(name);
        if path.is_dir() && !path.join(KEPT).exists() {
            remove_directory(&path);
        }
    }
}

/// The names in a directory that a run has made which is no longer alive.
fn orphans(directory: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(directory) else {
        return Vec::new();
    };
    let names = entries
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok());
    let is_alive = |pid: u32| Path::new("/proc").join(pid.to_string()).exists();
    names
        .filter(|name| owner(name).is_some_and(|pid| !is_alive(pid)))
        .collect()
}

/// The process that a name is of: the first number behind the prefix.
fn owner(name: &str) -> Option<u32> {
    let mut parts = name.strip_prefix(PREFIX)?.split('-');
    parts.find_map(|part| part.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_whose_it_is() {
        assert_eq!(owner("tl-4711-0-sbc"), Some(4711));
        assert_eq!(owner("tl-offload-4711-3-inner"), Some(4711));
        assert_eq!(owner("tl-somebody-s"), None);
        assert_eq!(owner("4711-0-sbc"), None);
    }
}
