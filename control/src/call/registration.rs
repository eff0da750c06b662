//! Registrations with trunks (RFC 3261 §10): that they know where we are.
//!
//! One for each trunk that asks for it. It is renewed before it ends; after a failure the trunk's
//! next address is tried, later each time.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use rand::Rng;
use relay_user::media::MediaPlane;

use super::{
    Core,
    headers::MAX_FORWARDS,
    routing::{called_host, to_destination},
    selection::order,
    trunk::Trunk,
    wire::Client,
};
use crate::{
    config::{Destination, Host},
    sip::{
        CSeq, HeaderName, Method, NameAddress, Request, Response, SipUri, Text, TransactionId, Uri,
    },
};

/// The pause after the first failure; each further one doubles it (RFC 5626 §4.5).
const PAUSE: Duration = Duration::from_secs(30);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(1_800);
/// The longest Retry-After that is honoured.
const LONGEST_WAIT: Duration = Duration::from_secs(86_400);
/// The longest registration that a 423 may ask for, in seconds.
const LONGEST: u32 = 604_800;
/// How long before its end a registration is renewed: a transaction's time, twice, and some.
const MARGIN: Duration = Duration::from_secs(80);
/// How long the end of a registration may take while we shut down.
const FAREWELL: Duration = Duration::from_secs(4);

/// How far a registration is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RegistrationState {
    /// The trunk has no address yet, or has not answered.
    Waiting,
    Registered,
    /// The last attempt failed; there will be another.
    Failed,
    /// It is being taken back.
    Leaving,
}

impl RegistrationState {
    /// The name in metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Registered => "registered",
            Self::Failed => "failed",
            Self::Leaving => "leaving",
        }
    }
}

/// A registration at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistrationSnapshot {
    pub trunk: Arc<str>,
    /// Whom it registers, as a URI.
    pub address: Text,
    pub state: RegistrationState,
    /// The status of the last answer; 408 and 503 also for none.
    pub status: Option<u16>,
    /// Failures since the last success.
    pub failures: u32,
    /// When it ends unless it is renewed.
    pub until: Option<Instant>,
}

/// One registration.
#[derive(Debug)]
struct Registration {
    trunk: Arc<Trunk>,
    user: String,
    call_id: Text,
    tag: Text,
    sequence: u32,
    /// The address of the trunk that is used.
    destination: usize,
    /// All of them, in the order in which they have their turns.
    order: Vec<u16>,
    /// Those that have asked to be left alone, and until when.
    held: Vec<(SocketAddr, Instant)>,
    client: Option<TransactionId>,
    /// The REGISTER that takes it back has been sent.
    is_taken_back: bool,
    /// What is asked for, in seconds.
    expires: u32,
    state: RegistrationState,
    status: Option<u16>,
    failures: u32,
    /// When something is to be done.
    due: Option<Instant>,
    until: Option<Instant>,
}

impl Registration {
    /// The URI that is registered.
    fn address(&self) -> Option<SipUri> {
        self.address_at(&self.trunk, self.destination)
    }

    /// The URI that is registered at an address of a trunk, by its place.
    fn address_at(&self, trunk: &Trunk, destination: usize) -> Option<SipUri> {
        let settings = trunk.registration.as_ref()?;
        let host = match &settings.registrar {
            Some(registrar) => SipUri::new(None, registrar.as_str(), None),
            None => registrar(trunk, trunk.destinations.get(destination)?),
        };
        Some(SipUri {
            user: Some(self.user.as_str().into()),
            ..host
        })
    }

    /// Leaves the address that is used alone until then, as it has asked.
    fn hold(&mut self, now: Instant, until: Option<Instant>) {
        let known = &self.trunk.destinations;
        let here = known.get(self.destination).map(|here| here.address);
        self.held.retain(|(address, until)| {
            let is_known = known.iter().any(|it| it.address == *address);
            is_known && Some(*address) != here && *until > now
        });
        self.held.extend(here.zip(until));
    }

    /// The address that has its turn after this one, and until when it is to be left alone: those
    /// that may be asked come before all others.
    fn next_destination(&self) -> (usize, Option<Instant>) {
        let mut order = self.order.iter().map(|place| usize::from(*place));
        // The one that was drawn last is followed by the first.
        let here = order.position(|place| place == self.destination);
        let turns = self.order.iter().cycle().skip(here.map_or(0, |it| it + 1));
        let turns = turns.take(self.order.len()).map(|place| {
            let place = usize::from(*place);
            let address = self.trunk.destinations.get(place).map(|it| it.address);
            let mut held = self.held.iter();
            let held = held.find(|(held, _)| Some(*held) == address);
            (place, held.map(|(_, until)| *until))
        });
        turns.min_by_key(|(_, until)| *until).unwrap_or_default()
    }

    fn snapshot(&self) -> RegistrationSnapshot {
        let address = self.address().map(|uri| Uri::from(uri).to_string());
        RegistrationSnapshot {
            trunk: Arc::clone(&self.trunk.name),
            address: address
                .unwrap_or_else(|| format!("sip:{}", self.user))
                .into(),
            state: self.state,
            status: self.status,
            failures: self.failures,
            until: self.until,
        }
    }

    /// Whether the same is registered at the same place by another generation of the trunk, or at
    /// another address of the same registrar: what is taken back there might be what it has just
    /// learned here.
    fn is_as(&self, trunk: &Trunk) -> bool {
        let here = self.trunk.destinations.get(self.destination);
        let is_there = |here| trunk.destinations.iter().any(|it| it.is_same_peer(here));
        let mut places = 0..trunk.destinations.len();
        let mut moves = || {
            let address = self.address();
            self.client.is_none()
                && !trunk.destinations.is_empty()
                && places.all(|place| self.address_at(trunk, place) == address)
        };
        *self.trunk.name == *trunk.name
            && self.trunk.registration == trunk.registration
            && self.trunk.credentials == trunk.credentials
            && self.trunk.listen == trunk.listen
            && self.trunk.transport == trunk.transport
            && self.trunk.host == trunk.host
            && (here.is_none_or(is_there) || moves())
            && trunk.registered_user().as_ref() == Some(&self.user)
    }
}

/// All registrations.
#[derive(Debug, Default)]
pub(super) struct Registrations(Vec<Registration>);

impl Registrations {
    /// When something is due.
    pub(super) fn next(&self) -> Option<Instant> {
        self.0.iter().filter_map(|one| one.due).min()
    }

    /// That of a trunk which is not being taken back.
    pub(super) fn of(&self, trunk: &str) -> Option<RegistrationSnapshot> {
        let mut all = self.0.iter();
        let found =
            all.find(|one| *one.trunk.name == *trunk && one.state != RegistrationState::Leaving);
        found.map(Registration::snapshot)
    }

    pub(super) fn snapshots(&self) -> Vec<RegistrationSnapshot> {
        self.0.iter().map(Registration::snapshot).collect()
    }
}

impl<M: MediaPlane> Core<M> {
    /// Registers with the trunks of the settings and takes back what they no longer have; while
    /// draining, all. To be called after [`Core::new`], [`Core::reconfigure`] and [`Core::drain`].
    pub fn register(&mut self, now: Instant) {
        let wanted: Vec<(Arc<Trunk>, String)> = self
            .trunks
            .iter()
            .filter(|_| !self.draining)
            .filter_map(|trunk| Some((Arc::clone(trunk), trunk.registered_user()?)))
            .collect();
        let mut leaving = Vec::new();
        for one in &mut self.registrations.0 {
            let found = wanted.iter().find(|(trunk, _)| one.is_as(trunk));
            match found {
                Some((trunk, _)) if one.state != RegistrationState::Leaving => {
                    let here = one.trunk.destinations.get(one.destination);
                    let place = here.and_then(|here| {
                        let mut all = trunk.destinations.iter();
                        all.position(|destination| destination.is_same_peer(here))
                    });
                    one.order = order(&trunk.destinations, &mut self.random);
                    let first = one.order.first().map_or(0, |place| usize::from(*place));
                    let has_moved = here.is_some() && place.is_none();
                    one.destination = place.unwrap_or(first);
                    one.trunk = Arc::clone(trunk);
                    let waits = one.state == RegistrationState::Waiting || has_moved;
                    if waits && one.client.is_none() {
                        one.due = Some(now);
                    }
                }
                _ if one.state != RegistrationState::Leaving => {
                    leaving.push(one.call_id.clone());
                }
                _ => {}
            }
        }
        for call_id in leaving {
            self.leave(now, &call_id);
        }
        for (trunk, user) in wanted {
            let is_there = self.registrations.0.iter().any(|one| {
                one.state != RegistrationState::Leaving && *one.trunk.name == *trunk.name
            });
            let Some(settings) = trunk.registration.as_ref().filter(|_| !is_there) else {
                continue;
            };
            let expires = settings.expires;
            let call_id = self.new_sip_call_id();
            let (_, tag) = self.new_tag();
            let order = order(&trunk.destinations, &mut self.random);
            self.registrations.0.push(Registration {
                trunk,
                user,
                call_id,
                tag,
                sequence: 0,
                destination: order.first().map_or(0, |place| usize::from(*place)),
                order,
                held: Vec::new(),
                client: None,
                is_taken_back: false,
                expires,
                state: RegistrationState::Waiting,
                status: None,
                failures: 0,
                due: Some(now),
                until: None,
            });
        }
        self.registrations_due(now);
    }

    /// Whether a registration is still being taken back.
    #[must_use]
    pub fn is_leaving(&self) -> bool {
        self.registrations
            .0
            .iter()
            .any(|one| one.state == RegistrationState::Leaving)
    }

    /// Takes a registration back, if there is one.
    fn leave(&mut self, now: Instant, call_id: &Text) {
        let Some(one) = self.registration(|one| one.call_id == *call_id) else {
            return;
        };
        let is_known = one.until.is_some_and(|until| until > now);
        one.state = RegistrationState::Leaving;
        one.due = Some(now + FAREWELL);
        if one.client.is_some() {
            // RFC 3261 §10.2: one REGISTER at a time.
        } else if is_known {
            self.take_back(now, call_id);
        } else {
            self.registrations.0.retain(|one| one.call_id != *call_id);
        }
    }

    fn take_back(&mut self, now: Instant, call_id: &Text) {
        if let Some(one) = self.registration(|one| one.call_id == *call_id) {
            one.expires = 0;
            one.is_taken_back = true;
            self.send_register(now, call_id);
        }
    }

    /// Does what is due.
    pub(super) fn registrations_due(&mut self, now: Instant) {
        let due: Vec<Text> = self
            .registrations
            .0
            .iter()
            .filter(|one| one.due.is_some_and(|due| due <= now))
            .map(|one| one.call_id.clone())
            .collect();
        for call_id in due {
            let Some(one) = self.registration(|one| one.call_id == call_id) else {
                continue;
            };
            one.due = None;
            if one.state == RegistrationState::Leaving {
                self.registrations.0.retain(|one| one.call_id != call_id);
            } else {
                self.send_register(now, &call_id);
            }
        }
        self.drain_transactions(now);
    }

    fn registration(&mut self, is: impl Fn(&Registration) -> bool) -> Option<&mut Registration> {
        self.registrations.0.iter_mut().find(|one| is(one))
    }

    fn send_register(&mut self, now: Instant, call_id: &Text) {
        let Some(one) = self.registration(|one| one.call_id == *call_id) else {
            return;
        };
        let trunk = Arc::clone(&one.trunk);
        let Some(destination) = trunk.destinations.get(one.destination) else {
            // Its names have not been looked up: `register` comes again when they are.
            return;
        };
        let Some(address) = one.address() else {
            return;
        };
        one.sequence += 1;
        let target = to_destination(&trunk, destination);
        let whom = NameAddress::new(Uri::from(address.clone()));
        let registrar = SipUri {
            user: None,
            ..address
        };
        let user: Text = one.user.as_str().into();
        let contact = NameAddress::new(Uri::from(trunk.contact(Some(&user))));
        let mut request = Request::new(Method::Register, registrar.into())
            .with(HeaderName::MaxForwards, MAX_FORWARDS)
            .with(HeaderName::From, whom.clone().with_tag(&one.tag))
            .with(HeaderName::To, &whom)
            .with(HeaderName::CallId, call_id)
            .with(HeaderName::CSeq, CSeq::new(one.sequence, Method::Register))
            .with(HeaderName::Contact, &contact)
            .with(HeaderName::Expires, one.expires)
            .with(HeaderName::Allow, &trunk.allow);
        if !trunk.supported.is_empty() {
            request
                .headers
                .push(HeaderName::Supported, &trunk.supported);
        }
        let client = Client::Register {
            trunk: Arc::clone(&trunk),
        };
        let sent = self.send(now, &trunk, target, request, client);
        let Some(one) = self.registration(|one| one.call_id == *call_id) else {
            return;
        };
        one.client = sent;
        if sent.is_none() && one.state != RegistrationState::Leaving {
            one.due = Some(now + PAUSE);
        }
    }

    /// A challenge was answered with another transaction.
    pub(super) fn registration_sent_again(
        &mut self,
        old: TransactionId,
        new: TransactionId,
        number: u32,
    ) {
        if let Some(one) = self.registration(|one| one.client == Some(old)) {
            one.client = Some(new);
            one.sequence = number;
        }
    }

    /// The final response to a REGISTER.
    pub(super) fn on_registered(&mut self, now: Instant, id: TransactionId, response: &Response) {
        if response.is_provisional() {
            return;
        }
        let jitter = self.random.random_range(0.0..0.1);
        let Some(one) = self.registration(|one| one.client == Some(id)) else {
            return;
        };
        if one.state == RegistrationState::Leaving {
            let call_id = one.call_id.clone();
            if one.is_taken_back || !response.is_success() {
                self.registrations.0.retain(|one| one.call_id != call_id);
            } else {
                self.take_back(now, &call_id);
            }
            return;
        }
        let headers = &response.headers;
        let least = headers.number(HeaderName::MinExpires).ok().flatten();
        if response.status == 423
            && let Some(least) = least.filter(|least| (one.expires..=LONGEST).contains(least))
            && least != one.expires
        {
            one.expires = least;
            one.client = None;
            one.status = Some(423);
            let call_id = one.call_id.clone();
            self.send_register(now, &call_id);
            return;
        }
        let lasts = granted(one, response).filter(|seconds| *seconds > 0);
        let Some(seconds) = lasts.filter(|_| response.is_success()) else {
            let wait = headers.number(HeaderName::RetryAfter).ok().flatten();
            // One that would have us ask without end gets the pauses of one that names none.
            let wait = wait.filter(|seconds| *seconds > 0);
            self.registration_failed(now, id, response.status, wait);
            return;
        };
        let lasts = Duration::from_secs(seconds.into());
        // Not all at one time, where many lines are registered.
        let early = lasts.mul_f64(jitter).min(MARGIN);
        let renewed = lasts.saturating_sub(MARGIN + early).max(lasts / 2);
        let is_new = one.state != RegistrationState::Registered;
        one.client = None;
        one.state = RegistrationState::Registered;
        one.status = Some(response.status);
        one.failures = 0;
        one.until = Some(now + lasts);
        one.due = Some(now + renewed);
        if is_new {
            let snapshot = one.snapshot();
            tracing::info!(
                trunk = &*snapshot.trunk,
                address = %snapshot.address,
                seconds,
                "registered"
            );
        }
    }

    /// A REGISTER was refused, or not answered. `wait` is Retry-After in seconds.
    pub(super) fn registration_failed(
        &mut self,
        now: Instant,
        id: TransactionId,
        status: u16,
        wait: Option<u32>,
    ) {
        let jitter = self.random.random_range(0.5..1.0);
        let Some(one) = self.registration(|one| one.client == Some(id)) else {
            return;
        };
        one.client = None;
        if one.state == RegistrationState::Leaving {
            let call_id = one.call_id.clone();
            self.registrations.0.retain(|one| one.call_id != call_id);
            return;
        }
        one.status = Some(status);
        one.state = RegistrationState::Failed;
        let addresses = one.trunk.destinations.len().max(1);
        let wait = wait.map(|seconds| Duration::from_secs(seconds.into()).min(LONGEST_WAIT));
        one.hold(now, wait.map(|wait| now + wait));
        let (next, held) = one.next_destination();
        one.destination = next;
        // The other addresses have their turn at once, the first time.
        let turns_at_once = (one.failures as usize) + 1 < addresses;
        let pause = match held {
            Some(until) => until.saturating_duration_since(now),
            None if turns_at_once => Duration::ZERO,
            None => {
                let doublings = one.failures.saturating_sub(addresses as u32 - 1).min(6);
                (PAUSE * (1 << doublings))
                    .min(LONGEST_PAUSE)
                    .mul_f64(jitter)
            }
        };
        one.failures = one.failures.saturating_add(1);
        one.due = Some(now + pause);
        let snapshot = one.snapshot();
        tracing::warn!(
            trunk = &*snapshot.trunk,
            address = %snapshot.address,
            status,
            seconds = pause.as_secs(),
            "not registered; the next attempt comes in that time"
        );
    }
}

/// The domain of who registers at an address of the trunk: the name in the configuration, whatever
/// it stands for at the moment.
fn registrar(trunk: &Trunk, destination: &Destination) -> SipUri {
    let entry = trunk.addresses.get(usize::from(destination.entry.place));
    match entry.map(|entry| &entry.address.host) {
        Some(Host::Name(name)) if destination.server_name.is_none() => {
            SipUri::new(None, name.as_str(), None)
        }
        _ => called_host(trunk, destination),
    }
}

/// How long the registrar keeps what was registered, in seconds: as it says beside our Contact,
/// else of all, else as we asked (RFC 3261 §10.2.4).
fn granted(one: &Registration, response: &Response) -> Option<u32> {
    let headers = &response.headers;
    let ours = one.trunk.contact(Some(&one.user.as_str().into()));
    let contacts = headers.addresses(HeaderName::Contact).unwrap_or_default();
    let beside = contacts
        .iter()
        .find(|contact| {
            contact.uri.as_sip().is_some_and(|uri| {
                uri.user == ours.user
                    && uri.host.eq_ignore_ascii_case(&ours.host)
                    && uri.port == ours.port
            })
        })
        .and_then(|contact| contact.parameters.get("expires")?.parse().ok());
    let of_all = headers.number(HeaderName::Expires).ok().flatten();
    Some(beside.or(of_all).unwrap_or(one.expires).min(LONGEST))
}

/// A call to what is registered is a call to the number in To: the registrar has put our Contact in
/// its place.
pub(super) fn aim(request: &mut Request, trunk: &Trunk) {
    let Some(user) = trunk.registered_user() else {
        return;
    };
    let Ok(to) = request.headers.to() else { return };
    if let (Uri::Sip(uri), Some(number)) = (&mut request.uri, to.uri.user())
        && uri.user.as_deref() == Some(user.as_str())
    {
        uri.user = Some(number.into());
    }
}
