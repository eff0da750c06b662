//! Network namespaces for the tests that need root. They have no name: each lives as long as a
//! thread of the test does, so nothing is left behind however the test ends.

use std::{
    io::Write as _,
    path::PathBuf,
    process::{Command, Stdio},
    sync::mpsc,
    thread::{self, JoinHandle},
};

type Task = Box<dyn FnOnce() + Send>;

pub(crate) struct Namespace {
    tasks: Option<mpsc::Sender<Task>>,
    thread: Option<JoinHandle<()>>,
    path: PathBuf,
}

impl Namespace {
    /// A new one, with its loopback up.
    pub(crate) fn new() -> Self {
        let (tasks, received) = mpsc::channel::<Task>();
        let (ready, path) = mpsc::channel();
        let thread = thread::spawn(move || {
            // SAFETY: changes the calling thread's own network namespace and nothing else.
            let result = unsafe { libc::unshare(libc::CLONE_NEWNET) };
            assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
            // SAFETY: has no argument and no effect.
            let thread = unsafe { libc::gettid() };
            let path = format!("/proc/{}/task/{thread}/ns/net", std::process::id());
            ready.send(PathBuf::from(path)).unwrap();
            for task in received {
                task();
            }
        });
        let namespace = Self {
            tasks: Some(tasks),
            thread: Some(thread),
            path: path.recv().expect("a network namespace: root is needed"),
        };
        namespace.ip("link set lo up");
        namespace
    }

    /// Runs something inside; threads and processes that it starts stay inside.
    pub(crate) fn enter<T: Send + 'static>(&self, task: impl FnOnce() -> T + Send) -> T {
        let (answer, answered) = mpsc::channel();
        let task: Box<dyn FnOnce() + Send + '_> = Box::new(move || {
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(task));
            answer.send(result).unwrap();
        });
        // SAFETY: only the lifetime changes. The task has ended, and all that it borrows with it,
        // before this function returns: it waits for the answer, which is sent last, and a
        // namespace's thread drops no task unrun while the namespace lives.
        let task: Task = unsafe { std::mem::transmute(task) };
        self.tasks.as_ref().unwrap().send(task).unwrap();
        match answered.recv().unwrap() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }

    /// Runs `ip` with the arguments.
    pub(crate) fn ip(&self, arguments: &str) {
        self.run("ip", arguments);
    }

    /// Runs a command and gives what it printed.
    pub(crate) fn run(&self, program: &str, arguments: &str) -> String {
        self.enter(|| {
            let output = Command::new(program)
                .args(arguments.split_whitespace())
                .output()
                .unwrap();
            let complaint = String::from_utf8_lossy(&output.stderr);
            assert!(
                output.status.success(),
                "{program} {arguments}: {complaint}"
            );
            String::from_utf8(output.stdout).unwrap()
        })
    }

    /// Runs many `ip` commands by one process.
    pub(crate) fn ip_batch(&self, commands: &str) {
        self.enter(|| {
            let mut child = Command::new("ip")
                .args(["-batch", "-"])
                .stdin(Stdio::piped())
                .spawn()
                .unwrap();
            let mut input = child.stdin.take().unwrap();
            input.write_all(commands.as_bytes()).unwrap();
            drop(input);
            assert!(child.wait().unwrap().success());
        });
    }

    /// Joins two namespaces by a pair of devices, both up.
    pub(crate) fn veth(&self, here: &str, other: &Self, there: &str) {
        let path = other.path.display();
        self.ip(&format!(
            "link add {here} type veth peer name {there} netns {path}"
        ));
        for (namespace, device) in [(self, here), (other, there)] {
            namespace.ip(&format!("link set {device} up"));
        }
    }

    pub(crate) fn index(&self, device: &str) -> u32 {
        // `/sys` shows another namespace's devices: `ip` asks netlink.
        let shown = self.run("ip", &format!("-o link show dev {device}"));
        let (index, _) = shown.split_once(':').unwrap();
        index.trim().parse().unwrap()
    }

    pub(crate) fn hardware(&self, device: &str) -> [u8; 6] {
        let shown = self.run("ip", &format!("-o link show dev {device}"));
        let text = shown.split("link/ether ").nth(1).unwrap();
        let octets = text.split_whitespace().next().unwrap().split(':');
        let octets: Vec<u8> = octets
            .map(|octet| u8::from_str_radix(octet, 16).unwrap())
            .collect();
        octets.try_into().unwrap()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        drop(self.tasks.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
