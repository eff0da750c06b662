//! Compiles `relay-ebpf` for the kernel and hands the objects' paths to the crate as
//! `RELAY_OBJECT` and `MEASURE_OBJECT`.

use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, exit},
};

fn main() {
    let manifest = PathBuf::from(variable("CARGO_MANIFEST_DIR"));
    let workspace = manifest.parent().unwrap_or(Path::new("."));
    let target = match variable("CARGO_CFG_TARGET_ENDIAN").as_str() {
        "big" => "bpfeb-unknown-none",
        _ => "bpfel-unknown-none",
    };
    let output = PathBuf::from(variable("OUT_DIR")).join("relay-ebpf");
    for watched in [
        "relay-ebpf/src",
        "relay-ebpf/Cargo.toml",
        "relay-ebpf/abi",
        "Cargo.toml",
    ] {
        println!(
            "cargo:rerun-if-changed={}",
            workspace.join(watched).display()
        );
    }

    let mut build = Command::new(variable("CARGO"));
    if variable("CARGO_CFG_TARGET_ARCH") == "x86_64" {
        build.args(["build", "--features", "loads-in-order"]);
    } else {
        build.arg("build");
    }
    let status = build
        .current_dir(workspace)
        .args(["--release", "--package", "relay-ebpf", "--bins"])
        .args(["--target", target, "-Z", "build-std=core", "--target-dir"])
        .arg(&output)
        // The BPF target is tier 3: core is built from source, which the stable compiler allows
        // under this variable only. It reaches this one build and nothing else.
        .env("RUSTC_BOOTSTRAP", "1")
        .env(
            "CARGO_ENCODED_RUSTFLAGS",
            [
                "-Cdebuginfo=2",
                "-Clink-arg=--btf",
                // 32-bit arithmetic and jumps: every kernel that has the rest of what is needed.
                "-Ctarget-cpu=v3",
                // Headers in packets are not aligned. Without this they are read octet by octet.
                "-Clink-arg=--cpu-features=+allows-misaligned-mem-access",
            ]
            .join("\x1f"),
        )
        .env_remove("RUSTC")
        .env_remove("RUSTC_WRAPPER")
        .env_remove("RUSTC_WORKSPACE_WRAPPER")
        .status();
    match status {
        Ok(status) if status.success() => {}
        outcome => {
            eprintln!(
                "relay-ebpf was not built for {target} ({outcome:?}): it needs rust-src and \
                 bpf-linker, which `cargo xtask setup` installs"
            );
            exit(1);
        }
    }
    let objects = output.join(target).join("release");
    for (name, variable) in [("relay", "RELAY_OBJECT"), ("measure", "MEASURE_OBJECT")] {
        println!(
            "cargo:rustc-env={variable}={}",
            objects.join(name).display()
        );
    }
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| {
        eprintln!("{name} is not set: build scripts are run by cargo");
        exit(1);
    })
}
