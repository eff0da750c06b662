//! `trunkline run`.

use std::{
    io::{self, IsTerminal as _},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use control::{
    admin::AdminServer,
    config::{Settings, XdpMode, load, relay_config},
    daemon::{Command, Daemon, MediaObserver, warn},
    metrics::MetricsServer,
};
use relay_user::media::{
    CallId, FlowSnapshot, MediaPlane as _, MediaSnapshot, Relay, StreamStatistics,
};
use tokio::{
    runtime,
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
};
use tracing_subscriber::{
    EnvFilter, layer::SubscriberExt as _, reload, util::SubscriberInitExt as _,
};

/// How long what is under way on threads of its own may take at the end: a name that the system
/// looks up cannot be told to stop.
const PATIENCE: Duration = Duration::from_secs(1);

/// Serves calls until a signal ends it.
pub(super) fn run(file: PathBuf, xdp: Option<XdpMode>) -> Result<(), String> {
    let settings = load(&file).map_err(|error| error.to_string())?;
    let set_log_level = start_log(&settings);
    let runtime = runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("the runtime cannot be started: {error}"))?;
    // A SIGHUP that comes while the media plane starts would end the process otherwise.
    let commands = runtime
        .block_on(async { commands() })
        .map_err(|error| format!("signals cannot be received: {error}"))?;
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        file = %file.display(),
        "trunkline starts"
    );
    warn(&settings);
    // Another daemon is found out before its media could be led here.
    let admin = AdminServer::bind(&settings.admin.socket).map_err(|error| error.to_string())?;
    // The media plane's threads take none of the runtime's.
    let media = Relay::start(&relay_config(&settings, xdp)).map_err(|error| error.to_string())?;
    let served = runtime.block_on(serve(settings, file, media, admin, commands, set_log_level));
    runtime.shutdown_timeout(PATIENCE);
    served
}

async fn serve(
    settings: Settings,
    file: PathBuf,
    media: Relay,
    admin: AdminServer,
    commands: mpsc::Receiver<Command>,
    set_log_level: Box<dyn Fn(&str) + Send>,
) -> Result<(), String> {
    let say = |error: &dyn std::error::Error| error.to_string();
    let metrics = match settings.admin.metrics {
        Some(address) => Some(
            MetricsServer::bind(address)
                .await
                .map_err(|error| say(&error))?,
        ),
        None => None,
    };
    let mut seed = [0; 32];
    rand::rand_core::TryRngCore::try_fill_bytes(&mut rand::rngs::OsRng, &mut seed)
        .map_err(|error| format!("the system gives no random numbers: {error}"))?;
    let observer = Arc::new(Observer(media.clone()));
    let (daemon, handle) = Daemon::start(
        settings,
        file,
        media,
        observer,
        commands,
        set_log_level,
        seed,
    )
    .map_err(|error| say(&error))?;
    if let Some(metrics) = metrics {
        if let Ok(address) = metrics.address() {
            tracing::info!(%address, "metrics are served");
        }
        tokio::spawn(metrics.run(handle.clone()));
    }
    let admin = tokio::spawn(admin.run(handle));
    daemon.run().await;
    // Its file goes with it.
    admin.abort();
    let _ = admin.await;
    Ok(())
}

struct Observer(Relay);

impl MediaObserver for Observer {
    fn snapshot(&self) -> MediaSnapshot {
        self.0.snapshot()
    }

    fn flows(&self) -> Vec<FlowSnapshot> {
        self.0.flows()
    }

    fn streams(&self, call: CallId) -> Option<[StreamStatistics; 2]> {
        self.0.statistics(call)
    }
}

/// What signals say, one after the other.
fn commands() -> io::Result<mpsc::Receiver<Command>> {
    let (sender, receiver) = mpsc::channel(8);
    let signals = [
        (SignalKind::hangup(), Command::Reload),
        (SignalKind::terminate(), Command::Terminate),
        (SignalKind::interrupt(), Command::Terminate),
    ];
    for (kind, command) in signals {
        let signal = signal(kind)?;
        tokio::spawn(forward(signal, command, sender.clone()));
    }
    Ok(receiver)
}

async fn forward(mut signal: Signal, command: Command, sender: mpsc::Sender<Command>) {
    while signal.recv().await.is_some() {
        if sender.send(command).await.is_err() {
            return;
        }
    }
}

/// Logs to the standard error. Gives a function that changes the level, which `RUST_LOG` overrides.
fn start_log(settings: &Settings) -> Box<dyn Fn(&str) + Send> {
    let from_environment = std::env::var("RUST_LOG")
        .ok()
        .filter(|filter| !filter.is_empty());
    let fixed = from_environment.is_some();
    let filter = from_environment.unwrap_or_else(|| settings.log.level.clone());
    let (filter, handle) = reload::Layer::new(EnvFilter::new(filter));
    tracing_subscriber::registry()
        .with(filter)
        .with(
            tracing_subscriber::fmt::layer()
                .with_ansi(io::stderr().is_terminal())
                .with_writer(io::stderr),
        )
        .init();
    Box::new(move |level| {
        if !fixed && let Err(error) = handle.reload(EnvFilter::new(level)) {
            tracing::error!(%error, "the log level stays as it was");
        }
    })
}
