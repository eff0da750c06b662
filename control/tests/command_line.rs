//! The `trunkline` command as a person meets it, without a running daemon.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

struct File(PathBuf);

impl File {
    fn new(name: &str, text: &str) -> Self {
        let path = std::env::temp_dir().join(format!("{name}-{}.toml", std::process::id()));
        fs::write(&path, text).unwrap();
        Self(path)
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn trunkline(arguments: &[&str], file: Option<&Path>) -> Output {
    Command::new(env!("CARGO_BIN_EXE_trunkline"))
        .args(arguments)
        .args(file)
        .output()
        .unwrap()
}

fn text(octets: &[u8]) -> &str {
    std::str::from_utf8(octets).unwrap()
}

const GOOD: &str = "[media]\nports = \"20000-20099\"\nworkers = 2\nflows = 100\n\
    [limits]\ncalls = 40\n\
    [[interface]]\nname = \"eth0\"\naddresses = [\"192.0.2.1\"]\n\
    [[interface]]\nname = \"eth1\"\naddresses = [\"198.51.100.1\"]\n\
    [[trunk]]\nname = \"carrier\"\ninterface = \"eth0\"\ntransport = \"udp\"\n\
    listen = \"192.0.2.1:5060\"\naddresses = [\"192.0.2.2\", \"192.0.2.3\"]\n\
    [[route]]\nnumber = \"^1\"\ntrunk = \"carrier\"\n";

#[test]
fn check_tells_what_a_configuration_amounts_to() {
    let file = File::new("trunkline-check-good", GOOD);
    let output = trunkline(&["check"], Some(&file.0));
    assert!(output.status.success(), "{output:?}");
    let said = text(&output.stdout);
    for line in [
        "is sound\n",
        "interface eth0: media on 192.0.2.1, ports 20000-20099\n",
        "trunk carrier: udp on 192.0.2.1:5060, calls go to 192.0.2.2, then 192.0.2.3\n",
        "route 1: ^1 from every trunk to carrier\n",
        "workers: 2\n",
        "XDP: native, 100 flows, ",
        "at most 40 calls at one time: ",
    ] {
        assert!(said.contains(line), "{line:?} is missing in\n{said}");
    }
    let shared = File::new(
        "trunkline-check-shared",
        &GOOD.replace(
            "\"192.0.2.2\", \"192.0.2.3\"",
            "\"192.0.2.2\", { address = \"192.0.2.3\", priority = 1, weight = 9 }, \"192.0.2.4\"",
        )
        .replace("\"^1\"", "\"^1\"\nhost = \"sbc.example.com\""),
    );
    let output = trunkline(&["check"], Some(&shared.0));
    for line in [
        "calls go to 192.0.2.2 (weight 1) or 192.0.2.3 (weight 9), then 192.0.2.4\n",
        "route 1: ^1 at sbc.example.com from every trunk to carrier\n",
    ] {
        assert!(text(&output.stdout).contains(line), "{output:?}");
    }
    // Either family of an interface has all the ports.
    let both = File::new(
        "trunkline-check-both",
        &GOOD
            .replace("[\"192.0.2.1\"]", "[\"192.0.2.1\", \"2001:db8::1\"]")
            .replace("20000-20099", "20000-20049"),
    );
    let output = trunkline(&["check"], Some(&both.0));
    let said = text(&output.stdout);
    assert!(said.contains("at most 37 calls at one time: "), "{said}");
    // More flows take more memory, and the summary says so.
    let larger = File::new(
        "trunkline-check-large",
        &GOOD.replace("flows = 100\n", "flows = 2000000\n"),
    );
    let output = trunkline(&["check"], Some(&larger.0));
    let memory = text(&output.stdout)
        .lines()
        .find(|line| line.starts_with("XDP:"))
        .unwrap()
        .to_owned();
    assert!(
        memory.contains(" MiB of memory for its maps") || memory.contains(" GiB of memory"),
        "{memory}"
    );
}

#[test]
fn check_says_where_a_configuration_is_wrong() {
    let file = File::new(
        "trunkline-check-wrong",
        &GOOD.replace("listen =", "lissten ="),
    );
    let output = trunkline(&["check"], Some(&file.0));
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(text(&output.stdout), "");
    assert_eq!(
        text(&output.stderr),
        format!(
            "{}:17: unknown key `lissten` in [[trunk]]: did you mean `listen`?\n",
            file.0.display()
        )
    );
    let output = trunkline(&["run", "--config"], Some(&file.0));
    assert_eq!(output.status.code(), Some(1), "it is not run either");
}

#[test]
fn the_exit_code_is_the_same_when_nobody_reads_the_error() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let status = Command::new(env!("CARGO_BIN_EXE_trunkline"))
        .args(["check", "/nonexistent/trunkline.toml"])
        .stderr(writer)
        .status()
        .unwrap();
    assert_eq!(status.code(), Some(1));
}

#[test]
fn questions_without_a_daemon_say_so() {
    for command in ["calls", "flows", "stats"] {
        let output = trunkline(&[command, "--socket", "/nonexistent/admin.sock"], None);
        assert_eq!(output.status.code(), Some(1));
        assert_eq!(
            text(&output.stderr),
            "no daemon answers at /nonexistent/admin.sock (No such file or directory (os error 2)): \
             start the daemon, or name its socket with --socket or --config\n"
        );
    }
}

#[test]
fn the_reference_is_printed() {
    let output = trunkline(&["reference"], None);
    assert!(output.status.success());
    assert!(text(&output.stdout).starts_with("# Configuration\n"));
}
