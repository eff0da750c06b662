//! `cargo xtask test`.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
    time::Instant,
};

use crate::shell;

/// What `cargo test` has told.
#[derive(Default)]
pub(crate) struct Told {
    pub passed: u64,
    pub failed: u64,
    ignored: u64,
    pub failures: Vec<String>,
}

pub(crate) fn test() -> Result<(), String> {
    let root = shell::is_root();
    eprintln!("test: building");
    // The end-to-end tests run the binary itself, and find it beside themselves.
    let mut build = shell::cargo();
    build.args(["build", "--workspace", "--exclude", "relay-ebpf", "--bins"]);
    shell::run(&mut build)?;
    let binary = shell::target()?.join("debug/trunkline");
    let mut stages = vec![("without root", vec!["--skip", "rooted"])];
    if root {
        // They share the machine's cores with real peers that keep real time.
        stages.push(("rooted", vec!["rooted", "--test-threads=1"]));
    }
    let mut all = Told::default();
    let mut lines = Vec::new();
    for (name, arguments) in stages {
        eprintln!("test: {name}");
        let began = Instant::now();
        let (told, succeeded) = stage(&arguments, &binary)?;
        lines.push(format!(
            "test: {name}: {} passed, {} failed, {} ignored in {} s{}",
            told.passed,
            told.failed,
            told.ignored,
            began.elapsed().as_secs(),
            if succeeded || told.failed > 0 {
                ""
            } else {
                "; did not build or did not end"
            },
        ));
        all.passed += told.passed;
        all.failed += told.failed.max(u64::from(!succeeded));
        all.failures.extend(told.failures);
    }
    println!();
    for failure in &all.failures {
        println!("test: failed: {failure}");
    }
    for line in lines {
        println!("{line}");
    }
    if !root {
        println!(
            "test: left out without root: every test whose path holds `rooted` (XDP programs, \
             network namespaces, end-to-end calls); run `sudo -E cargo xtask test` for them"
        );
    }
    if all.failed > 0 {
        return Err("tests failed".into());
    }
    if all.passed == 0 {
        return Err("no test ran".into());
    }
    Ok(())
}

/// Runs one stage, passing its output on as it comes.
fn stage(arguments: &[&str], binary: &Path) -> Result<(Told, bool), String> {
    let mut command: Command = shell::cargo();
    command
        .args([
            "test",
            "--workspace",
            "--exclude",
            "relay-ebpf",
            "--no-fail-fast",
            "--",
        ])
        .args(arguments)
        .env("TRUNKLINE", binary)
        .stdout(Stdio::piped());
    let mut child = command
        .spawn()
        .map_err(|error| format!("cargo test: {error}"))?;
    let mut told = Told::default();
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line);
            println!("{line}");
            told.read(&line);
        }
    }
    let status = child
        .wait()
        .map_err(|error| format!("cargo test: {error}"))?;
    Ok((told, status.success()))
}

impl Told {
    /// Takes a line in.
    pub(crate) fn read(&mut self, line: &str) {
        if let Some(counts) = line.strip_prefix("test result: ") {
            let count = |what: &str| {
                counts
                    .split([';', '.'])
                    .find_map(|part| part.trim().strip_suffix(what)?.trim().parse::<u64>().ok())
                    .unwrap_or(0)
            };
            self.passed += count("passed");
            self.failed += count("failed");
            self.ignored += count("ignored");
        } else if let Some(name) = line
            .strip_prefix("test ")
            .and_then(|rest| rest.strip_suffix(" ... FAILED"))
        {
            self.failures.push(name.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargos_closing_lines_are_counted() {
        let mut told = Told::default();
        for line in [
            "test a::b ... ok",
            "test a::c ... FAILED",
            "test result: FAILED. 11 passed; 1 failed; 0 ignored; 0 measured; 3 filtered out; finished in 2.9s",
            "test result: ok. 5 passed; 0 failed; 2 ignored; 0 measured; 0 filtered out; finished in 0.0s",
        ] {
            told.read(line);
        }
        assert_eq!((told.passed, told.failed, told.ignored), (16, 1, 2));
        assert_eq!(told.failures, ["a::c"]);
    }
}
