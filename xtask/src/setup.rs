//! Installs what is missing.

use std::process::Command;

use crate::shell;

/// Debian's and Ubuntu's packages, with what each is for.
const PACKAGES: [(&str, &str); 16] = [
    ("gcc", "links, and compiles libsrtp"),
    ("libc6-dev", "links"),
    ("make", "builds libsrtp and jemalloc"),
    ("pkg-config", "finds OpenSSL"),
    ("clang", "reads libsrtp's headers"),
    ("libssl-dev", "AES for libsrtp"),
    (
        "openssl",
        "makes the RSA keys that Teams' cipher suites want",
    ),
    ("iproute2", "network namespaces"),
    ("ethtool", "offloads of their interfaces"),
    ("util-linux", "children that end with their parent"),
    ("procps", "looks at processes"),
    ("sip-tester", "SIPp, a peer in the demo and the tests"),
    ("baresip-core", "a peer in the demo and the tests"),
    ("ffmpeg", "a peer with SRTP in the tests"),
    ("kamailio", "a proxy in the tests"),
    ("kamailio-tls-modules", "TLS for it"),
];

/// The peer of the benchmarks. Only they install it: on a machine with systemd its service starts
/// with that.
const PEER: [(&str, &str); 1] = [("rtpengine-daemon", "what the benchmarks measure beside")];

/// What fuzzing alone wants.
const FUZZER: [(&str, &str); 1] = [("g++", "compiles libFuzzer")];

/// What tests on another kernel want.
const EMULATOR: [(&str, &str); 3] = [
    ("qemu-system-x86", "runs another kernel"),
    ("kmod", "its modules"),
    ("cpio", "packs what it has in memory"),
];

const CARGO_FUZZ: &str = "0.13.2";

/// The version that goes with the pinned compiler.
const BPF_LINKER: &str = "0.10.4";

/// Parts of the pinned toolchain that building needs.
const COMPONENTS: [&str; 3] = ["rust-src", "rustfmt", "clippy"];

pub(crate) fn setup() -> Result<(), String> {
    packages(&PACKAGES)?;
    components()?;
    bpf_linker()
}

/// What the benchmarks need besides.
pub(crate) fn peer() -> Result<(), String> {
    packages(&PEER)
}

/// What another kernel needs besides.
pub(crate) fn emulator() -> Result<(), String> {
    packages(&EMULATOR)
}

fn packages(wanted: &[(&str, &str)]) -> Result<(), String> {
    let missing: Vec<_> = wanted
        .iter()
        .filter(|(package, _)| !is_installed(package))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = missing.iter().map(|(package, _)| *package).collect();
    if shell::output(Command::new("apt-get").arg("--version")).is_none() {
        return Err(format!(
            "this is not Debian or Ubuntu; install what they call {}",
            names.join(" ")
        ));
    }
    if !shell::is_root() {
        return Err(format!(
            "packages are missing; as root: apt-get install --no-install-recommends {}",
            names.join(" ")
        ));
    }
    for (package, purpose) in &missing {
        eprintln!("setup: installing {package}: {purpose}");
    }
    keep_from_starting(&names)?;
    if install(&names).is_err() {
        eprintln!("setup: bringing apt's lists up to date first");
        shell::run(apt().args(["update", "-qq"]))?;
        install(&names)?;
    }
    Ok(())
}

/// Programs that the tests start themselves, whose packages bring a service for systemd.
const SERVICES: [&str; 1] = ["kamailio"];

/// Sees to it that a package which is about to be installed starts nothing on this machine.
fn keep_from_starting(names: &[&str]) -> Result<(), String> {
    if !std::path::Path::new("/run/systemd/system").exists() {
        return Ok(());
    }
    for service in SERVICES.iter().filter(|service| names.contains(service)) {
        eprintln!("setup: {service}'s service is masked, so that it does not start here");
        shell::run(Command::new("systemctl").args(["mask", &format!("{service}.service")]))?;
    }
    Ok(())
}

/// Whether dpkg knows the package, or another that provides it, as installed.
fn is_installed(package: &str) -> bool {
    shell::output(Command::new("dpkg-query").args([
        "--show",
        "--showformat=${db:Status-Status}",
        package,
    ]))
    .is_some_and(|status| status.contains("installed") && !status.contains("not-installed"))
}

fn install(names: &[&str]) -> Result<(), String> {
    shell::run(
        apt()
            .args(["install", "-qq", "-y", "--no-install-recommends"])
            .args(names),
    )
}

fn apt() -> Command {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive").args([
        "-o",
        "DPkg::Lock::Timeout=300",
        "-o",
        "Dpkg::Use-Pty=0",
    ]);
    command
}

fn components() -> Result<(), String> {
    let sysroot = shell::output(
        Command::new("rustc")
            .current_dir(shell::root())
            .args(["--print", "sysroot"]),
    )
    .ok_or("rustc does not run: is rustup's cargo directory in PATH?")?;
    let sysroot = std::path::Path::new(sysroot.trim());
    let there = [
        "lib/rustlib/src/rust/library/core/Cargo.toml",
        "bin/cargo-fmt",
        "bin/cargo-clippy",
    ]
    .iter()
    .all(|part| sysroot.join(part).exists());
    if there {
        return Ok(());
    }
    eprintln!("setup: adding to the toolchain: {}", COMPONENTS.join(" "));
    shell::run(
        Command::new("rustup")
            .current_dir(shell::root())
            .args(["component", "add"])
            .args(COMPONENTS),
    )
}

fn bpf_linker() -> Result<(), String> {
    let purpose = "links the XDP programs (this takes minutes, once)";
    tool("bpf-linker", BPF_LINKER, purpose)
}

/// What fuzzing needs besides.
pub(crate) fn fuzzer() -> Result<(), String> {
    packages(&FUZZER)?;
    tool("cargo-fuzz", CARGO_FUZZ, "runs the fuzz targets")
}

/// Installs a program of crates.io unless it is there in this version.
fn tool(name: &str, version: &str, purpose: &str) -> Result<(), String> {
    let wanted = format!("{name} {version}");
    let there = shell::output(Command::new(name).arg("--version"));
    if there.is_some_and(|version| version.trim() == wanted) {
        return Ok(());
    }
    eprintln!("setup: building {wanted}: {purpose}");
    shell::run(shell::cargo().args(["install", name, "--version", version, "--locked", "--force"]))
}
