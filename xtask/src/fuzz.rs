//! `cargo xtask fuzz`.

use std::path::Path;

use crate::shell;

/// The fuzz targets, each a program in `fuzz/fuzz_targets` with a corpus in `fuzz/corpus`.
const TARGETS: [&str; 7] = ["sip", "call", "sdp", "rtp", "srtp", "rtcp", "stun"];

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The targets to run, one after the other; all if none is named.
    #[arg(value_parser = TARGETS)]
    targets: Vec<String>,
    /// How long each runs.
    #[arg(long, default_value_t = 60)]
    seconds: u32,
    /// Make the checked-in corpora small again: the fewest inputs that reach what all reach.
    #[arg(long)]
    minimise: bool,
}

/// Runs each target until its time is over or an input fails, which is then in `fuzz/artifacts`.
pub(crate) fn fuzz(arguments: &Arguments) -> Result<(), String> {
    let named: Vec<&str> = match arguments.targets.as_slice() {
        [] => TARGETS.to_vec(),
        named => named.iter().map(String::as_str).collect(),
    };
    for target in named {
        if arguments.minimise {
            run("cmin", target, &[])?;
            continue;
        }
        let found = shell::root().join("target/fuzz").join(target);
        std::fs::create_dir_all(&found).map_err(|error| format!("{}: {error}", found.display()))?;
        let checked_in = shell::root().join("fuzz/corpus").join(target);
        let seconds = format!("-max_total_time={}", arguments.seconds);
        let paths = [found.as_path(), &checked_in].map(Path::to_string_lossy);
        let [found, checked_in] = &paths;
        // New inputs go to the first directory, so that the checked-in corpus stays small.
        let options = [
            found,
            checked_in,
            "--",
            &seconds,
            "-timeout=10",
            "-max_len=8192",
        ];
        run("run", target, &options)?;
    }
    Ok(())
}

fn run(command: &str, target: &str, options: &[&str]) -> Result<(), String> {
    // Everything but the XDP programs is safe Rust, so the sanitizers would find little; without
    // them the stable compiler does, asked for its coverage instrumentation alone.
    shell::run(
        shell::cargo()
            .env("RUSTC_BOOTSTRAP", "1")
            .args(["fuzz", command, "--sanitizer", "none", target])
            .args(options),
    )
}
