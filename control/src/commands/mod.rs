//! The command line.

mod bench;
mod check;
mod query;
mod run;

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand};
use control::config::{ADMIN_SOCKET, XdpMode, load};
use relay_user::measure::{SERVE, serve};

/// A session border controller with its media plane in XDP.
#[derive(Debug, Parser)]
#[command(name = "trunkline", version, max_term_width = 100)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Reads a configuration, and tells what is wrong with it or what it amounts to.
    Check { file: PathBuf },
    /// Serves calls. SIGHUP reads the configuration anew; SIGTERM ends with the last call, or when
    /// `drain_seconds` are over.
    Run {
        /// The configuration.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// This mode of XDP and no other, whatever the configuration says.
        #[arg(long, value_enum)]
        xdp: Option<XdpMode>,
    },
    /// Lists the calls of the running daemon.
    Calls {
        #[command(flatten)]
        daemon: Running,
    },
    /// Shows one call.
    Call {
        /// Its number, or the Call-ID of one of its legs.
        id: String,
        #[command(flatten)]
        daemon: Running,
    },
    /// Lists the flows: what arrives at each media port.
    Flows {
        #[command(flatten)]
        daemon: Running,
    },
    /// Lists the trunks: which of their addresses are in service, and since when.
    Trunks {
        #[command(flatten)]
        daemon: Running,
    },
    /// Shows all counts.
    Stats {
        #[command(flatten)]
        daemon: Running,
    },
    /// Measures what this machine relays, as root, between network namespaces of its own.
    Bench(bench::Arguments),
    /// Prints the configuration's reference in Markdown.
    Reference,
}

/// Which daemon to ask, and how to show the answer.
#[derive(Debug, Args)]
struct Running {
    /// Its admin socket.
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// The configuration that it runs with: names the socket.
    #[arg(long, value_name = "FILE", conflicts_with = "socket")]
    config: Option<PathBuf>,
    /// Print JSON in place of a table.
    #[arg(long)]
    json: bool,
}

impl Running {
    fn socket(&self) -> Result<PathBuf, String> {
        match (&self.socket, &self.config) {
            (Some(socket), _) => Ok(socket.clone()),
            (None, Some(file)) => load(file)
                .map(|settings| settings.admin.socket)
                .map_err(|error| error.to_string()),
            (None, None) => Ok(PathBuf::from(ADMIN_SOCKET)),
        }
    }
}

/// Does what the command line says.
pub(super) fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    if let (Some(SERVE), Some(service)) = (arguments.next().as_deref(), arguments.next()) {
        // The relay that `bench` measures; it has told whoever started it what went wrong.
        return match service.parse().and_then(serve) {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        };
    }
    let done = match CommandLine::parse().command {
        Command::Check { file } => check::check(&file),
        Command::Run { config, xdp } => run::run(config, xdp),
        Command::Calls { daemon } => query::calls(&daemon),
        Command::Call { id, daemon } => query::call(&daemon, id),
        Command::Flows { daemon } => query::flows(&daemon),
        Command::Trunks { daemon } => query::trunks(&daemon),
        Command::Stats { daemon } => query::statistics(&daemon),
        Command::Bench(arguments) => bench::bench(&arguments),
        Command::Reference => print(&control::config::reference()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            use std::io::Write;
            // Nobody may be left to read it; the exit code tells all the same.
            let _ = writeln!(std::io::stderr(), "{error}");
            ExitCode::FAILURE
        }
    }
}

/// Writes to the standard output. A reader that closes early, such as `head`, is no error.
fn print(text: &str) -> Result<(), String> {
    use std::io::{ErrorKind, Write, stdout};
    match stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(format!("nothing can be printed: {error}"))
        }
        _ => Ok(()),
    }
}
