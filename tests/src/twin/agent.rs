//! A SIP endpoint that remembers everything that came and answers by itself what a script need not
//! care for.

use std::{
    collections::HashMap,
    fmt::Write,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU16, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use rand::Rng;

use super::{
    dialog::Dialog,
    link::Link,
    message::Message,
    rules::{self, ALLOW, Rule, SHORTEST_TIMER},
};
use crate::{
    daemon::TLS_PORT,
    lab::{Door, LabError, Result},
};

/// How long a script waits for what should come at once.
pub const SOON: Duration = Duration::from_secs(20);

/// How long whoever refuses with 503 wants to be left alone, in seconds.
pub const RETRY_AFTER: &str = "5";

/// Who an endpoint is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// As strict as Teams.
    Teams,
    /// A carrier or a contact centre, which takes what comes.
    Plain,
}

/// How an endpoint, or one of the twin's proxies, meets requests outside of dialogs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Normal,
    /// Takes connections and messages and says nothing.
    Silent,
    /// Answers every INVITE with a status at once; OPTIONS too when it is 503.
    Refuses(u16),
    /// Breaks each connection off when a message comes.
    Drops,
}

/// A message that came.
#[derive(Clone, Debug)]
pub struct Arrival {
    pub at: Instant,
    pub message: Message,
    pub link: Link,
    /// The rules that it breaks; of requests to Teams alone.
    pub broken: Vec<Rule>,
}

pub(super) struct State {
    pub(super) arrivals: Vec<Arrival>,
    /// Final answers, by branch and method, for requests that come again.
    answered: HashMap<(String, String), Message>,
    /// Our INVITEs, by branch, to acknowledge refusals.
    invites: HashMap<String, Message>,
    /// ACKs for successes, by Call-ID and number.
    acknowledged: HashMap<(String, u32), Message>,
    /// INVITEs of others without a final answer, by branch.
    pending: HashMap<String, Message>,
    pub(super) dialogs: Vec<Arc<Mutex<Dialog>>>,
    pub(super) modes: HashMap<Option<IpAddr>, Mode>,
    trace: String,
}

pub(super) struct Shared {
    pub(super) name: &'static str,
    pub(super) manner: Manner,
    pub(super) door: Door,
    /// Where its media is.
    pub(super) address: IpAddr,
    /// The port of its next call's media; 0: any.
    pub(super) media_port: AtomicU16,
    began: Instant,
    state: Mutex<State>,
    changed: Condvar,
}

/// An endpoint; copies are the same one.
#[derive(Clone)]
pub struct Agent {
    pub(super) shared: Arc<Shared>,
}

impl Agent {
    #[must_use]
    pub fn new(name: &'static str, manner: Manner, door: Door, address: IpAddr) -> Self {
        Self {
            shared: Arc::new(Shared {
                name,
                manner,
                door,
                address,
                media_port: AtomicU16::new(0),
                began: Instant::now(),
                state: Mutex::new(State {
                    arrivals: Vec::new(),
                    answered: HashMap::new(),
                    invites: HashMap::new(),
                    acknowledged: HashMap::new(),
                    pending: HashMap::new(),
                    dialogs: Vec::new(),
                    modes: HashMap::new(),
                    trace: String::new(),
                }),
                changed: Condvar::new(),
            }),
        }
    }

    /// Who it is, for messages.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.shared.name
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.shared
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// How requests that arrive at an address of ours are met; `None`: at all others.
    pub fn set_mode(&self, address: Option<IpAddr>, mode: Mode) {
        self.state().modes.insert(address, mode);
    }

    /// At which port the media of the next call is.
    pub fn set_media_port(&self, port: u16) {
        self.shared.media_port.store(port, Ordering::Relaxed);
    }

    /// A place in what has come; [`Agent::wait`] looks behind it.
    #[must_use]
    pub fn mark(&self) -> usize {
        self.state().arrivals.len()
    }

    /// Everything that came behind a mark.
    #[must_use]
    pub fn arrivals(&self, mark: usize) -> Vec<Arrival> {
        self.state().arrivals.iter().skip(mark).cloned().collect()
    }

    /// Waits for a message behind a mark.
    ///
    /// # Errors
    /// When none comes within `limit`; the text says what came instead.
    pub fn wait(
        &self,
        mark: usize,
        limit: Duration,
        what: &str,
        is: impl Fn(&Arrival) -> bool,
    ) -> Result<Arrival> {
        let deadline = Instant::now() + limit;
        let mut state = self.state();
        let mut looked = mark;
        loop {
            if let Some(found) = state.arrivals.iter().skip(looked).find(|&it| is(it)) {
                return Ok(found.clone());
            }
            looked = state.arrivals.len();
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let came: Vec<&str> = state
                    .arrivals
                    .iter()
                    .skip(mark)
                    .map(|arrival| arrival.message.start.as_str())
                    .filter(|start| !start.starts_with("OPTIONS"))
                    .collect();
                return Err(LabError::new(format!(
                    "{} waited for {what}; there came: {}",
                    self.shared.name,
                    if came.is_empty() {
                        "nothing".to_owned()
                    } else {
                        came.join(", ")
                    }
                )));
            }
            state = self
                .shared
                .changed
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// Sends a message and remembers what is needed for its answers.
    ///
    /// # Errors
    /// When it cannot be sent.
    pub fn send(&self, link: &Link, message: &Message) -> Result<()> {
        let mut state = self.state();
        self.send_locked(&mut state, link, message)
    }

    fn send_locked(&self, state: &mut State, link: &Link, message: &Message) -> Result<()> {
        self.note(state, "→", message);
        match (message.is_request(), message.method()) {
            (true, "INVITE") => {
                let branch = message.branch().to_owned();
                state.invites.insert(branch, message.clone());
            }
            (true, "ACK") => {
                let key = (message.call_id().to_owned(), message.sequence());
                state.acknowledged.insert(key, message.clone());
            }
            (false, method) if message.status().is_some_and(|status| status >= 200) => {
                if method == "INVITE" {
                    state.pending.remove(message.branch());
                }
                let key = (message.branch().to_owned(), method.to_owned());
                state.answered.insert(key, message.clone());
            }
            _ => {}
        }
        link.send(message)
    }

    fn note(&self, state: &mut State, arrow: &str, message: &Message) {
        let _ = write!(
            state.trace,
            "{:.3} {} {arrow}\n{}\n",
            self.shared.began.elapsed().as_secs_f64(),
            self.shared.name,
            String::from_utf8_lossy(&message.octets())
        );
    }

    /// Every message that was sent or came, as text.
    #[must_use]
    pub fn trace(&self) -> String {
        self.state().trace.clone()
    }

    /// Answers an INVITE or another request that waits for a script.
    ///
    /// # Errors
    /// When it cannot be sent.
    pub fn respond(&self, arrival: &Arrival, response: &Message) -> Result<()> {
        self.send(&arrival.link, response)
    }

    /// Whether an INVITE still waits for its final answer.
    #[must_use]
    pub fn is_pending(&self, invite: &Message) -> bool {
        self.state().pending.contains_key(invite.branch())
    }

    /// A Via of ours with a new branch: where we listen, whatever port a connection of ours has.
    #[must_use]
    pub fn via(&self, link: &Link) -> String {
        let sent_by = match (link.local(), link) {
            (Some(local), Link::Udp { .. } | Link::Tcp(_)) => local.to_string(),
            (Some(local), Link::Tls(_)) => SocketAddr::new(local.ip(), TLS_PORT).to_string(),
            (None, _) => self.shared.address.to_string(),
        };
        format!(
            "SIP/2.0/{} {sent_by};branch=z9hG4bK{}",
            link.transport(),
            token()
        )
    }

    fn mode(&self, state: &State, link: &Link) -> Mode {
        let address = link.local().map(|local| local.ip());
        state
            .modes
            .get(&address)
            .or_else(|| state.modes.get(&None))
            .copied()
            .unwrap_or(Mode::Normal)
    }

    fn on_request(&self, state: &mut State, link: &Link, request: &Message, broken: &[Rule]) {
        let method = request.method();
        let key = (request.branch().to_owned(), method.to_owned());
        if let Some(answer) = state.answered.get(&key).cloned() {
            let _ = link.send(&answer);
            return;
        }
        let answer = |state: &mut State, status: u16, reason: &str| {
            let response = Message::response(request, status, reason, &token());
            let _ = self.send_locked(state, link, &response);
        };
        let teams = self.shared.manner == Manner::Teams;
        let inside = request.to_tag().is_some();
        if !inside && method != "CANCEL" {
            match self.mode(state, link) {
                Mode::Normal => {}
                Mode::Silent => return,
                Mode::Drops => {
                    if let Some(connection) = link.connection() {
                        connection.close();
                    }
                    return;
                }
                Mode::Refuses(status) => {
                    if method == "INVITE" || status == 503 {
                        let mut response =
                            Message::response(request, status, "Refused by the script", &token());
                        if status == 503 {
                            response.push("Retry-After", RETRY_AFTER);
                        }
                        let _ = self.send_locked(state, link, &response);
                        return;
                    }
                }
            }
        }
        if method == "ACK" {
            return;
        }
        if let Some(refusal) = refusal(request, broken) {
            let _ = self.send_locked(state, link, &refusal);
            return;
        }
        let dialog = state
            .dialogs
            .iter()
            .find(|dialog| lock(dialog).is_of(request))
            .cloned();
        match method {
            "OPTIONS" => {
                let allow = if teams { ALLOW } else { PLAIN_ALLOW };
                let response = Message::response(request, 200, "OK", &token())
                    .with("Allow", allow)
                    .with("Accept", "application/sdp");
                let _ = self.send_locked(state, link, &response);
            }
            "CANCEL" => {
                answer(state, 200, "OK");
                if let Some(invite) = state.pending.get(request.branch()).cloned() {
                    let response = Message::response(&invite, 487, "Request Terminated", &token());
                    let _ = self.send_locked(state, link, &response);
                }
            }
            "INVITE" => {
                state
                    .pending
                    .insert(request.branch().to_owned(), request.clone());
                match dialog {
                    Some(dialog) => {
                        if let Some(response) = lock(&dialog).on_invite(request, link) {
                            let _ = self.send_locked(state, link, &response);
                        }
                    }
                    None if inside => answer(state, 481, "Call/Transaction Does Not Exist"),
                    None => {
                        let trying = Message::response(request, 100, "Trying", "");
                        let _ = self.send_locked(state, link, &trying);
                    }
                }
            }
            _ => match dialog {
                Some(_) if method == "NOTIFY" => answer(state, 200, "OK"),
                Some(dialog) if method == "BYE" => {
                    lock(&dialog).end();
                    answer(state, 200, "OK");
                }
                None if inside => answer(state, 481, "Call/Transaction Does Not Exist"),
                // The rest is a script's: REFER, PRACK, UPDATE and INFO of a plain endpoint.
                _ => {}
            },
        }
    }

    fn on_response(&self, state: &mut State, link: &Link, response: &Message) {
        if response.method() != "INVITE" {
            return;
        }
        match response.status() {
            Some(200..300) => {
                let key = (response.call_id().to_owned(), response.sequence());
                let known = state.acknowledged.get(&key);
                if let Some(known) = known.filter(|known| known.to_tag() == response.to_tag()) {
                    let _ = link.send(known);
                }
            }
            Some(300..) => {
                let Some(invite) = state.invites.get(response.branch()) else {
                    return;
                };
                let mut acknowledgement = Message::request("ACK", invite.uri());
                for name in ["Via", "Route", "From"] {
                    for value in invite.all(name) {
                        acknowledgement.push(name, value);
                    }
                }
                for (name, value) in [
                    ("To", response.header("To").unwrap_or_default()),
                    ("Call-ID", invite.call_id()),
                    ("CSeq", &format!("{} ACK", invite.sequence())),
                    ("Max-Forwards", "70"),
                ] {
                    acknowledgement.push(name, value);
                }
                self.note(state, "→", &acknowledgement);
                let _ = link.send(&acknowledgement);
            }
            _ => {}
        }
    }
}

/// What a plain endpoint allows.
pub(super) const PLAIN_ALLOW: &str =
    "INVITE, ACK, CANCEL, BYE, OPTIONS, PRACK, UPDATE, INFO, REFER, NOTIFY";

/// Where a link delivers what comes.
pub(super) trait Arrive: Send + Sync + 'static {
    fn arrive(&self, link: &Link, message: Message);
}

impl Arrive for Agent {
    fn arrive(&self, link: &Link, message: Message) {
        let mut state = self.state();
        self.note(&mut state, "←", &message);
        let broken = if self.shared.manner == Manner::Teams && message.is_request() {
            let dialog = state
                .dialogs
                .iter()
                .find(|dialog| lock(dialog).is_of(&message))
                .map(|dialog| lock(dialog).expected());
            match message.method() {
                "ACK" | "CANCEL" => Vec::new(),
                _ => rules::judge(&message, link, dialog.as_ref()),
            }
        } else {
            Vec::new()
        };
        if message.is_request() {
            self.on_request(&mut state, link, &message, &broken);
        } else {
            self.on_response(&mut state, link, &message);
        }
        state.arrivals.push(Arrival {
            at: Instant::now(),
            message,
            link: link.clone(),
            broken,
        });
        self.shared.changed.notify_all();
    }
}

/// Teams' refusal of a request, if it breaks a rule that earns one.
fn refusal(request: &Message, broken: &[Rule]) -> Option<Message> {
    let (rule, (status, reason, code)) = broken
        .iter()
        .find_map(|rule| Some((rule, rule.refusal()?)))?;
    let code = code.map_or(String::new(), |code| format!("{code};"));
    let mut response = Message::response(request, status, reason, &token()).with(
        "Reason",
        &format!("SIP;cause={status};text=\"{code}{rule}\""),
    );
    match rule {
        Rule::MethodNotAllowed => response.push("Allow", ALLOW),
        Rule::Requires => {
            let required = request.header("Require").unwrap_or_default().to_owned();
            response.push("Unsupported", &required);
        }
        Rule::Replaces => response.push("Unsupported", "replaces"),
        Rule::TimerTooShort => response.push("Min-SE", &SHORTEST_TIMER.to_string()),
        _ => {}
    }
    Some(response)
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A token that was not used before.
#[must_use]
pub fn token() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    format!(
        "{:08x}{:x}",
        rand::rng().random::<u32>(),
        NEXT.fetch_add(1, Ordering::Relaxed)
    )
}
