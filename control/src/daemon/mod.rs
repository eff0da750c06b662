//! The running daemon: one task that owns every call and joins it to sockets, timers, signals and
//! whoever asks.

mod handle;
mod reload;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

pub use handle::{Handle, MediaObserver, Phase};

use std::{
    collections::VecDeque,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use relay_user::media::MediaPlane;
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
    time::sleep_until,
};

use crate::{
    call::{CallEvent, Change, Core, Output},
    config::{ConfigError, Settings},
    sip::Target,
    transport::{Lookups, TransportError, TransportEvent, Transports, resolve},
};
use handle::Query;
use reload::Reloaded;

/// How long the messages that hang calls up may take when draining took too long.
const FAREWELL: Duration = Duration::from_secs(4);
/// How often connections with certificates that were replaced are looked after.
const RETIREMENT: Duration = Duration::from_secs(1);
/// How long after a ringing call's last moment such a connection may stay open: what its last
/// messages may take.
const LEAVE: Duration = Duration::from_secs(32);
/// How long a handshake that began before a reload may take, and some.
const HANDSHAKE: Duration = Duration::from_secs(15);
/// How many questions may wait.
const QUERIES: usize = 64;
/// How many messages are taken at once before timers and signals get their turn.
const BATCH: usize = 256;

/// What a person or a service manager tells the daemon by a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Read the configuration anew (SIGHUP).
    Reload,
    /// Take no new calls and end with the last one; when said again, end at once (SIGTERM,
    /// SIGINT).
    Terminate,
}

/// Applies a log level to the process.
pub type SetLogLevel = Box<dyn Fn(&str) + Send>;

/// Everything that serves calls.
pub struct Daemon<M> {
    core: Core<M>,
    transports: Arc<Transports>,
    events: mpsc::Receiver<TransportEvent>,
    queries: mpsc::Receiver<Query>,
    commands: mpsc::Receiver<Command>,
    settings: Arc<Settings>,
    path: PathBuf,
    lookups: Lookups,
    phase: watch::Sender<Phase>,
    /// The settings for whoever asks.
    published: watch::Sender<Arc<Settings>>,
    set_log_level: SetLogLevel,
    /// Targets of messages that could not be sent, not yet told to the core.
    failed: VecDeque<Target>,
    refresh: Option<JoinHandle<Lookups>>,
    reload: Option<JoinHandle<Result<Reloaded, ConfigError>>>,
    /// SIGHUP came again while a reload was under way.
    reload_again: bool,
    drain: Option<Drain>,
    retirement: Option<Retirement>,
}

/// The end of connections whose certificates a reload has replaced.
#[derive(Clone, Copy)]
struct Retirement {
    /// When they are looked after next.
    next: tokio::time::Instant,
    /// Until when connections that begin with the old certificates may turn up.
    least: tokio::time::Instant,
    /// When they are closed, whatever they wait for.
    most: tokio::time::Instant,
}

#[derive(Clone, Copy)]
struct Drain {
    /// When what is left is hung up.
    hang_up: tokio::time::Instant,
    /// When it ends whatever is left; set with the hanging up.
    end: Option<tokio::time::Instant>,
}

impl<M: MediaPlane> Daemon<M> {
    /// Opens the listeners. Must be called within a tokio runtime. `path` is what a reload reads;
    /// `seed` must come from a secure source.
    ///
    /// # Errors
    /// What the listeners or the certificates say.
    pub fn start(
        settings: Settings,
        path: PathBuf,
        media: M,
        observer: Arc<dyn MediaObserver>,
        commands: mpsc::Receiver<Command>,
        set_log_level: SetLogLevel,
        seed: [u8; 32],
    ) -> Result<(Self, Handle), TransportError> {
        let settings = Arc::new(settings);
        let (sender, events) = mpsc::channel(crate::transport::QUEUE);
        let transports = Arc::new(Transports::start(&settings, sender)?);
        let (queries_sender, queries) = mpsc::channel(QUERIES);
        let (phase, phase_receiver) = watch::channel(Phase::Starting);
        let (published, settings_receiver) = watch::channel(Arc::clone(&settings));
        let handle = Handle {
            queries: queries_sender,
            media: observer,
            transports: Arc::clone(&transports),
            phase: phase_receiver,
            settings: settings_receiver,
        };
        let daemon = Self {
            core: Core::new(Arc::clone(&settings), media, seed),
            transports,
            events,
            queries,
            commands,
            settings,
            path,
            lookups: Lookups::default(),
            phase,
            published,
            set_log_level,
            failed: VecDeque::new(),
            refresh: None,
            reload: None,
            reload_again: false,
            drain: None,
            retirement: None,
        };
        Ok((daemon, handle))
    }

    /// Serves calls until it is told to end and the last call has ended. Gives the media plane
    /// back by dropping it, once nothing uses it any more.
    pub async fn run(mut self) {
        if self.look_up_first().await {
            self.core.watch(Instant::now());
            self.phase.send_replace(Phase::Ready);
            tracing::info!(
                trunks = self.settings.trunks.len(),
                routes = self.settings.routes.len(),
                "ready"
            );
        }
        let mut batch = Vec::with_capacity(BATCH);
        while !self.finished() {
            let timeout = self.core.next_timeout().map(tokio::time::Instant::from_std);
            let refresh = self.lookups.due().filter(|_| self.refresh.is_none());
            let refresh = refresh.map(tokio::time::Instant::from_std);
            let drain = self.drain.map(|drain| drain.end.unwrap_or(drain.hang_up));
            tokio::select! {
                biased;
                command = self.commands.recv() => match command {
                    Some(Command::Reload) => self.begin_reload(),
                    Some(Command::Terminate) => {
                        if self.terminate() {
                            break;
                        }
                    }
                    // Nobody is left who could end us: take it for the end.
                    None => break,
                },
                () = at(drain) => self.drained(),
                () = at(self.retirement.map(|it| it.next)) => self.retire(),
                () = at(timeout) => self.core.timeout(Instant::now()),
                lookups = joined(&mut self.refresh) => {
                    match lookups {
                        Some(lookups) => self.refreshed(lookups),
                        None => self.lookups.postpone(Instant::now()),
                    }
                }
                reloaded = joined(&mut self.reload) => {
                    if let Some(reloaded) = reloaded {
                        self.reloaded(reloaded);
                    }
                }
                Some(query) = self.queries.recv() => self.answer(query),
                () = at(refresh) => self.begin_refresh(),
                received = self.events.recv_many(&mut batch, BATCH) => {
                    if received == 0 {
                        break;
                    }
                    for event in batch.drain(..) {
                        self.take(event);
                    }
                }
            }
            self.flush();
        }
        self.core.hang_up(Instant::now());
        self.flush();
        self.transports.shut_down().await;
        tracing::info!("ended");
    }

    /// Looks up the names of the trunks' addresses before any call is served. False when it is told
    /// to end first.
    async fn look_up_first(&mut self) -> bool {
        // Also when no address is a name: the literal ones become destinations here.
        let (settings, nothing) = (Arc::clone(&self.settings), Lookups::default());
        let mut lookups = std::pin::pin!(resolve(&settings, &nothing, &nothing));
        loop {
            tokio::select! {
                biased;
                command = self.commands.recv() => match command {
                    Some(Command::Reload) => self.begin_reload(),
                    Some(Command::Terminate) => {
                        self.terminate();
                        return false;
                    }
                    None => return false,
                },
                Some(query) = self.queries.recv() => self.answer(query),
                lookups = &mut lookups => {
                    self.use_lookups(lookups);
                    return true;
                }
            }
        }
    }

    fn take(&mut self, event: TransportEvent) {
        match event {
            TransportEvent::Message { flow, octets } => {
                self.core.receive(Instant::now(), &flow, &octets);
            }
            TransportEvent::Failed(target) => {
                self.core.transport_failed(Instant::now(), &target);
            }
            TransportEvent::Closed(flow) => {
                self.core.connection_closed(Instant::now(), &flow);
            }
        }
        self.flush();
    }

    /// Does what the core wants done.
    fn flush(&mut self) {
        loop {
            while let Some(output) = self.core.poll() {
                match output {
                    Output::Transmit { target, bytes } => {
                        if let Err(error) = self.transports.send(&target, bytes) {
                            tracing::info!(%target, %error, "a message could not be sent");
                            self.failed.push_back(target);
                        }
                    }
                    Output::Event(event) => log(&event),
                    Output::Peer(event) => match event.down {
                        Some(_) => tracing::warn!(target: "trunkline::peer", "{event}"),
                        None => tracing::info!(target: "trunkline::peer", "{event}"),
                    },
                    Output::Close(flow) => self.transports.close(&flow),
                }
            }
            // Each failure ends a transaction, so this ends too.
            let Some(target) = self.failed.pop_front() else {
                return;
            };
            self.core.transport_failed(Instant::now(), &target);
        }
    }

    fn answer(&self, query: Query) {
        // Who asked may be gone.
        match query {
            Query::Calls(answer) => {
                let _ = answer.send(self.core.calls_without_streams());
            }
            Query::Call(id, answer) => {
                let _ = answer.send(self.core.call(id));
            }
            Query::Trunks(answer) => {
                let _ = answer.send(self.core.trunk_snapshots());
            }
            Query::Statistics(answer) => {
                let _ = answer.send(self.core.statistics());
            }
        }
    }

    fn begin_refresh(&mut self) {
        let settings = Arc::clone(&self.settings);
        let known = self.lookups.clone();
        self.refresh = Some(tokio::spawn(async move {
            let fresh = known.fresh(Instant::now());
            resolve(&settings, &known, &fresh).await
        }));
    }

    fn refreshed(&mut self, lookups: Lookups) {
        if lookups.is_same(&self.lookups) {
            self.lookups = lookups;
        } else {
            self.use_lookups(lookups);
        }
    }

    fn use_lookups(&mut self, lookups: Lookups) {
        self.lookups = lookups;
        let settings = reload::with_lookups(&self.settings, &self.lookups);
        let is_first = *self.phase.borrow() == Phase::Starting;
        for trunk in &settings.trunks {
            let before = self.settings.trunk(&trunk.name);
            if !is_first && before.is_some_and(|it| it.destinations == trunk.destinations) {
                continue;
            }
            let addresses: Vec<_> = trunk
                .destinations
                .iter()
                .map(|destination| destination.address.to_string())
                .collect();
            tracing::info!(trunk = trunk.name, ?addresses, "addresses");
        }
        self.transports.update_destinations(&settings);
        self.use_settings(settings);
    }

    fn use_settings(&mut self, settings: Arc<Settings>) {
        self.core.reconfigure(Instant::now(), Arc::clone(&settings));
        self.core.register(Instant::now());
        self.published.send_replace(Arc::clone(&settings));
        self.settings = settings;
    }

    fn begin_reload(&mut self) {
        if self.reload.is_some() {
            self.reload_again = true;
            return;
        }
        tracing::info!(file = %self.path.display(), "reading the configuration anew");
        self.reload = Some(tokio::spawn(reload::read(
            self.path.clone(),
            self.lookups.clone(),
        )));
    }

    fn reloaded(&mut self, reloaded: Result<Reloaded, ConfigError>) {
        match reloaded {
            Err(error) => {
                for line in error.to_string().lines() {
                    tracing::error!("{line}");
                }
                tracing::error!("the configuration is wrong; the old one stays in use");
            }
            Ok(reloaded) => self.apply(reloaded),
        }
        if std::mem::take(&mut self.reload_again) {
            self.begin_reload();
        }
    }

    fn apply(&mut self, reloaded: Reloaded) {
        let Reloaded {
            mut settings,
            lookups,
        } = reloaded;
        warn(&settings);
        let fixed = reload::keep_fixed(&mut settings, &self.settings);
        if let Some((trunk, missing)) = reload::stranded(&settings) {
            tracing::error!(
                trunk,
                missing,
                "a trunk is on an interface or media address that is not in use yet: restart to use it; the old configuration stays in use"
            );
            return;
        }
        let settings = reload::with_lookups(&settings, &lookups);
        if let Err(error) = self.transports.reload(&settings) {
            tracing::error!(%error, "the old configuration stays in use");
            return;
        }
        let now = tokio::time::Instant::now();
        let ring = Duration::from_secs(self.settings.limits.ring_seconds);
        self.retirement = Some(Retirement {
            next: now,
            least: now + HANDSHAKE,
            most: now + ring + LEAVE,
        });
        if settings.log != self.settings.log {
            (self.set_log_level)(&settings.log.level);
        }
        self.use_settings(settings);
        self.transports.close_listeners();
        self.lookups = lookups;
        // One under way is for the names of the old one.
        if let Some(refresh) = self.refresh.take() {
            refresh.abort();
        }
        for part in fixed {
            tracing::warn!(
                part,
                "changed in the file; it takes a restart to apply that"
            );
        }
        tracing::info!("the new configuration is in use");
    }

    /// Closes connections with certificates that were replaced, once nothing is awaited over them:
    /// new ones have taken their place. So it does with listeners that calls alone still need.
    fn retire(&mut self) {
        let Some(mut retirement) = self.retirement.take() else {
            return;
        };
        let now = tokio::time::Instant::now();
        let left = if now >= retirement.most {
            self.transports.retire(|_| false)
        } else if self.events.is_empty() {
            let awaited = self.core.awaited();
            self.transports.retire(|flow| awaited.is_over(flow))
        } else {
            // What came over one of them has to be read first.
            1
        };
        let listeners = self.transports.close_listeners();
        if left > 0 || listeners > 0 || now < retirement.least {
            retirement.next = now + RETIREMENT;
            self.retirement = Some(retirement);
        }
    }

    /// True when it is time to end at once.
    fn terminate(&mut self) -> bool {
        if self.drain.is_some() {
            tracing::warn!("told again to end: what is left is hung up");
            return true;
        }
        let limit = Duration::from_secs(self.settings.limits.drain_seconds);
        tracing::info!(
            calls = self.calls(),
            seconds = limit.as_secs(),
            "no new calls; it ends with the last one or when the time is over"
        );
        self.core.drain();
        self.core.register(Instant::now());
        self.phase.send_replace(Phase::Draining);
        self.drain = Some(Drain {
            hang_up: tokio::time::Instant::now() + limit,
            end: None,
        });
        false
    }

    /// The time to drain is over.
    fn drained(&mut self) {
        let calls = self.calls();
        if let Some(drain) = &mut self.drain
            && drain.end.is_none()
        {
            tracing::warn!(calls, "the time to end is over: what is left is hung up");
            self.core.hang_up(Instant::now());
            drain.end = Some(tokio::time::Instant::now() + FAREWELL);
        }
    }

    fn finished(&self) -> bool {
        let Some(drain) = self.drain else {
            return false;
        };
        self.calls() == 0 && !self.core.is_leaving()
            || drain
                .end
                .is_some_and(|end| end <= tokio::time::Instant::now())
    }

    fn calls(&self) -> usize {
        self.core.call_count()
    }
}

/// Ends at a time; never when there is none.
async fn at(time: Option<tokio::time::Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// The result of a task that is under way, which is then no more; `None` when it failed.
async fn joined<T>(task: &mut Option<JoinHandle<T>>) -> Option<T> {
    let Some(running) = task else {
        return std::future::pending().await;
    };
    let result = running.await;
    *task = None;
    result.ok()
}

/// Logs what is allowed but probably not meant.
pub fn warn(settings: &Settings) {
    for problem in &settings.warnings {
        tracing::warn!(line = problem.line, "{problem}");
    }
}

/// One line for each change of a call's state.
fn log(event: &CallEvent) {
    let [caller, callee] = &event.call_ids;
    let caller = caller.as_ref().map(tracing::field::display);
    let callee = callee.as_ref().map(tracing::field::display);
    match event.change {
        Change::Rejected { .. } | Change::Failover { .. } | Change::RenegotiationFailed { .. } => {
            tracing::warn!(target: "trunkline::call", call_id = caller, callee_call_id = callee, "{event}");
        }
        _ => {
            tracing::info!(target: "trunkline::call", call_id = caller, callee_call_id = callee, "{event}");
        }
    }
}
