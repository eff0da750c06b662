//! Another process of this program, which does a part of a test.

use std::{
    env, fs,
    io::{BufRead as _, BufReader, Read as _},
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use crate::namespace::Namespace;

/// Killed when it is dropped, also where it is stopped.
pub(crate) struct Process(Child);

impl Process {
    /// Starts a test once more, inside and with the variable set, and waits until that is
    /// [`ready_until_let_go`].
    pub(crate) fn start(inside: &Namespace, test: &str, variable: &str, value: &str) -> Self {
        let child = inside.enter(|| {
            Command::new(env::current_exe().expect("this program"))
                .args([test, "--exact", "--nocapture"])
                .env(variable, value)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .expect("started")
        });
        let mut process = Self(child);
        let output = process.0.stdout.take().expect("a pipe");
        let mut lines = BufReader::new(output).lines();
        let ready = lines.any(|line| line.is_ok_and(|line| line.ends_with("ready")));
        assert!(ready, "the process with {variable}={value} did not start");
        process
    }

    /// What `/proc` has of it under that name.
    pub(crate) fn told(&self, name: &str) -> PathBuf {
        format!("/proc/{}/{name}", self.0.id()).into()
    }

    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("kill")
            .args([&format!("-{name}"), &self.0.id().to_string()])
            .status();
        assert!(status.expect("kill").success());
    }

    /// Whether every thread is stopped.
    pub(crate) fn stands_still(&self) -> bool {
        let tasks = fs::read_dir(self.told("task")).expect("it lives");
        tasks.flatten().all(|task| {
            let status = fs::read_to_string(task.path().join("stat")).unwrap_or_default();
            let state = status.rsplit_once(") ").map(|(_, rest)| rest);
            state.is_some_and(|state| state.starts_with('T'))
        })
    }

    /// By SIGKILL: nothing of it runs any more.
    pub(crate) fn kill(mut self) {
        self.0.kill().expect("it lives");
        self.0.wait().expect("it has ended");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// In the process itself: says that it is ready and waits until whoever started it ends.
pub(crate) fn ready_until_let_go() {
    println!("\nready");
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
}
