//! `cargo xtask`: the developer's one door.

mod bench;
mod demo;
mod fuzz;
mod kernel;
mod setup;
mod shell;
mod teams;
mod test;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(about = "Sets Trunkline up, shows it at work and tests it.")]
struct Arguments {
    #[command(subcommand)]
    command: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Install what building, demonstrating and testing need and what is not there yet.
    Setup,
    /// Make real calls through Trunkline between network namespaces, and say what was heard.
    Demo(demo::Arguments),
    /// Measure packets per second, latency and recovery, beside the bare redirect and rtpengine.
    Bench(bench::Arguments),
    /// Look for inputs that break a parser or the relay.
    Fuzz(fuzz::Arguments),
    /// Test the media plane on another kernel, in an emulated machine.
    Kernel(kernel::Arguments),
    /// Check Trunkline by what Microsoft Teams asks, row by row.
    TeamsReport(teams::Arguments),
    /// Run every test; without root, those that do without it.
    Test,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match arguments.command {
        Task::Setup => setup::setup(),
        Task::Demo(arguments) => setup::setup().and_then(|()| demo::demo(&arguments)),
        Task::Bench(arguments) => setup::setup()
            .and_then(|()| setup::peer())
            .and_then(|()| bench::bench(&arguments)),
        Task::Fuzz(arguments) => setup::setup()
            .and_then(|()| setup::fuzzer())
            .and_then(|()| fuzz::fuzz(&arguments)),
        Task::Kernel(arguments) => setup::setup()
            .and_then(|()| setup::emulator())
            .and_then(|()| kernel::kernel(&arguments)),
        Task::TeamsReport(arguments) => {
            setup::setup().and_then(|()| teams::teams_report(&arguments))
        }
        Task::Test => setup::setup().and_then(|()| test::test()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("xtask: {why}");
            ExitCode::FAILURE
        }
    }
}
