//! Digest authentication (RFC 3261 §22): whom we challenge, and what we answer when challenged.
//!
//! A request that is challenged goes again with credentials as a new transaction: the same Call-ID
//! and tags, the next number. What is known of a trunk's challenge is put into later requests at
//! once.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use rand::RngCore;
use relay_user::media::MediaPlane;

use super::{
    Core, Side,
    core::parse_tag,
    model::Call,
    statistics::Authenticated,
    trunk::Trunk,
    wire::{Client, OwnTag},
};
use crate::{
    digest::{Answer, Asked, Challenge, Freshness, Nonces, Protection},
    sip::{CSeq, Header, HeaderName, Method, Request, Response, Target, TransactionId},
};

/// How often one request is sent with other credentials: for a proxy's challenge, the peer's, and a
/// stale nonce.
const TRIES: u8 = 3;
/// Challenges of one response that are looked at.
const CHALLENGES: usize = 8;

/// Who challenges: the peer by 401, a proxy on the way by 407.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    Peer,
    Proxy,
}

impl By {
    const ALL: [Self; 2] = [Self::Peer, Self::Proxy];

    const fn of(status: u16) -> Option<Self> {
        match status {
            401 => Some(Self::Peer),
            407 => Some(Self::Proxy),
            _ => None,
        }
    }

    const fn challenge(self) -> HeaderName {
        match self {
            Self::Peer => HeaderName::WwwAuthenticate,
            Self::Proxy => HeaderName::ProxyAuthenticate,
        }
    }

    const fn answer(self) -> HeaderName {
        match self {
            Self::Peer => HeaderName::Authorization,
            Self::Proxy => HeaderName::ProxyAuthorization,
        }
    }
}

/// The last challenge of a trunk, and how often its nonce was used.
#[derive(Debug)]
struct Known {
    challenge: Challenge,
    count: u32,
}

/// A request as it went to a trunk that may challenge it.
#[derive(Debug)]
pub(super) struct Sent {
    request: Request,
    target: Target,
    tries: u8,
    /// Who has been answered.
    answered: [bool; 2],
}

/// What is known of authentication.
#[derive(Debug)]
pub(super) struct Authenticator {
    nonces: Nonces,
    known: HashMap<Arc<str>, [Option<Known>; 2]>,
    /// Requests whose transactions run, to trunks that we have credentials for.
    pub(super) sent: HashMap<TransactionId, Box<Sent>>,
    /// The credentials of the INVITEs of our dialogs, by our tags: their ACKs bear the same
    /// (RFC 3261 §13.2.2.4).
    pub(super) invites: HashMap<u64, Vec<Header>>,
}

impl Authenticator {
    /// `key` must come from a secure source.
    pub(super) fn new(key: [u8; 32]) -> Self {
        Self {
            nonces: Nonces::new(key),
            known: HashMap::new(),
            sent: HashMap::new(),
            invites: HashMap::new(),
        }
    }

    /// The credentials of trunks may have changed.
    pub(super) fn forget_challenges(&mut self) {
        self.known.clear();
    }
}

impl<M: MediaPlane> Core<M> {
    /// Whether a request that begins something may: with the trunk's authentication only with good
    /// credentials.
    ///
    /// # Errors
    /// The challenge that is its answer.
    pub(super) fn authenticate(
        &mut self,
        now: Instant,
        request: &Request,
        trunk: &Trunk,
        tag: &str,
    ) -> Result<(), Box<Response>> {
        let Some(wanted) = &trunk.authentication else {
            return Ok(());
        };
        let realm = wanted.realm.as_deref().unwrap_or(&trunk.host);
        let life = Duration::from_secs(wanted.nonce_seconds.into());
        let mut stale = false;
        let mut outcome = Authenticated::Challenged;
        for field in request.headers.all(HeaderName::Authorization) {
            let Some(answer) = Answer::parse(field.value()).filter(|answer| {
                answer.realm == realm
                    && wanted.algorithms.contains(&answer.algorithm)
                    && answer.protection != Some(Protection::Integrity)
            }) else {
                continue;
            };
            outcome = Authenticated::Refused;
            let password = wanted
                .users
                .iter()
                .find(|user| user.name == answer.user)
                .and_then(|user| user.password.as_ref());
            let is_known = password.is_some_and(|password| {
                answer.proves(password.reveal(), request.method.as_str(), &request.body)
            });
            if !is_known || !is_for(&answer.uri, request) {
                continue;
            }
            let nonces = &mut self.authenticator.nonces;
            match nonces.take(now, &trunk.name, &answer.nonce, answer.count, life) {
                Freshness::Good => {
                    self.statistics
                        .authenticated(&trunk.name, Authenticated::Accepted);
                    return Ok(());
                }
                Freshness::Stale => {
                    stale = true;
                    outcome = Authenticated::Stale;
                }
                // The password is right: a nonce of before a restart.
                Freshness::Foreign => {
                    stale = true;
                    outcome = Authenticated::Stale;
                }
            }
        }
        if outcome == Authenticated::Refused {
            tracing::warn!(
                trunk = &*trunk.name,
                method = request.method.as_str(),
                "wrong credentials"
            );
        }
        self.statistics.authenticated(&trunk.name, outcome);
        let mut response = Response::to_request(request, 401, Some(tag));
        for algorithm in &wanted.algorithms {
            let number = self.random.next_u64();
            let challenge = Challenge {
                realm: realm.to_owned(),
                nonce: self.authenticator.nonces.make(now, &trunk.name, number),
                opaque: None,
                algorithm: *algorithm,
                names_algorithm: true,
                protection: Some(Protection::Authentication),
                stale,
            };
            response
                .headers
                .push(HeaderName::WwwAuthenticate, challenge.text());
        }
        Err(Box::new(response))
    }

    /// Puts what the trunk's last challenges ask for into a request.
    pub(super) fn authorise(&mut self, trunk: &Trunk, request: &mut Request) {
        let Some(credentials) = &trunk.credentials else {
            return;
        };
        let Some(password) = &credentials.password else {
            return;
        };
        for by in By::ALL {
            request.headers.remove(by.answer());
            let known = self.authenticator.known.get_mut(&trunk.name);
            let Some(Some(known)) = known.and_then(|known| known.get_mut(by as usize)) else {
                continue;
            };
            known.count = known.count.saturating_add(1);
            let uri = request.uri.to_string();
            let asked = Asked {
                method: request.method.as_str(),
                uri: &uri,
                body: &request.body,
            };
            let client_nonce = format!(
                "{:016x}{:016x}",
                self.random.next_u64(),
                self.random.next_u64()
            );
            let answer = Answer::new(
                &known.challenge,
                &credentials.user,
                password.reveal(),
                asked,
                known.count,
                &client_nonce,
            );
            request.headers.push(by.answer(), answer.text());
        }
        if request.method == Method::Invite
            && let Some(tag) = own_tag(request)
            && self.tags.contains_key(&tag)
        {
            let credentials = By::ALL
                .iter()
                .filter_map(|by| request.headers.get(by.answer()))
                .cloned()
                .collect();
            self.authenticator.invites.insert(tag, credentials);
        }
    }

    /// The credentials that the ACK of a 2xx bears.
    pub(super) fn authorise_ack(&self, ack: &mut Request) {
        let invite = own_tag(ack).and_then(|tag| self.authenticator.invites.get(&tag));
        for field in invite.into_iter().flatten() {
            ack.headers.push_header(field.clone());
        }
    }

    /// Remembers a request that may be challenged.
    pub(super) fn keep_sent(&mut self, id: TransactionId, request: Request, target: Target) {
        let sent = Sent {
            request,
            target,
            tries: 0,
            answered: [false; 2],
        };
        self.authenticator.sent.insert(id, Box::new(sent));
    }

    /// Answers a challenge by sending the request again. False when there is nothing to answer it
    /// with: then the response is as any other.
    pub(super) fn answer_challenge(
        &mut self,
        now: Instant,
        id: TransactionId,
        response: &Response,
    ) -> bool {
        let Some(by) = By::of(response.status) else {
            return false;
        };
        let Some(client) = self.clients.get(&id) else {
            return false;
        };
        let trunk = Arc::clone(client.trunk());
        if !self.is_wanted(client, id) {
            return false;
        }
        let Some(sent) = self.authenticator.sent.get(&id) else {
            return false;
        };
        let Some(challenge) = choose(&trunk, by, response) else {
            tracing::warn!(
                trunk = &*trunk.name,
                status = response.status,
                "a challenge that we have no answer to"
            );
            return false;
        };
        let again = sent.answered.get(by as usize) == Some(&true);
        if sent.tries >= TRIES || again && !challenge.stale {
            tracing::warn!(
                trunk = &*trunk.name,
                status = response.status,
                "our credentials are not taken"
            );
            // The next request begins without them.
            self.authenticator.known.remove(&trunk.name);
            return false;
        }
        let known = self
            .authenticator
            .known
            .entry(Arc::clone(&trunk.name))
            .or_default();
        if let Some(slot) = known.get_mut(by as usize) {
            *slot = Some(Known {
                challenge,
                count: 0,
            });
        }
        let Some(mut sent) = self.authenticator.sent.remove(&id) else {
            return false;
        };
        sent.tries += 1;
        if let Some(answered) = sent.answered.get_mut(by as usize) {
            *answered = true;
        }
        self.send_again(now, &trunk, id, *sent)
    }

    fn send_again(
        &mut self,
        now: Instant,
        trunk: &Arc<Trunk>,
        id: TransactionId,
        sent: Sent,
    ) -> bool {
        let mut request = sent.request;
        let Some(number) = self.next_number(&request) else {
            return false;
        };
        let method = request.method.clone();
        request
            .headers
            .set(HeaderName::CSeq, CSeq::new(number, method));
        let kept = request.clone();
        let Some(new) = self.transmit(now, trunk, sent.target, request) else {
            return false;
        };
        let Some(mut client) = self.clients.remove(&id) else {
            return false;
        };
        client.renumber(number);
        let call = self.call_of(&client);
        self.clients.insert(new, client);
        if let Some(again) = self.authenticator.sent.get_mut(&new) {
            again.tries = sent.tries;
            again.answered = sent.answered;
        }
        self.registration_sent_again(id, new, number);
        if let Some(call) = call.and_then(|call| self.calls.get_mut(&call)) {
            sent_again(call, id, new, kept);
        }
        true
    }

    /// Whether somebody still waits for the answer to a request of ours.
    fn is_wanted(&self, client: &Client, id: TransactionId) -> bool {
        let call = self.call_of(client).and_then(|call| self.calls.get(&call));
        match client {
            Client::Setup { .. } => call.is_some_and(|call| call.awaits(id)),
            Client::Reinvite { .. } => call.is_some_and(|call| {
                call.exchange.as_ref().is_some_and(|exchange| {
                    exchange.client == Some(id) && exchange.cancelled.is_none()
                })
            }),
            Client::Update { .. } => call
                .and_then(|call| call.setup.as_ref()?.carried.as_ref())
                .is_some_and(|carried| carried.client == id),
            Client::Refresh { .. } | Client::Info { .. } => call.is_some(),
            // A challenge says as much as a 200: somebody is there.
            Client::Options { .. } => false,
            Client::Bye { .. } | Client::Register { .. } | Client::Nobody { .. } => true,
        }
    }

    /// The number with which a request goes again: the next one of its dialog.
    fn next_number(&mut self, request: &Request) -> Option<u32> {
        let next = request.headers.cseq().ok()?.number.checked_add(1)?;
        let found = own_tag(request).and_then(|tag| self.tags.get(&tag));
        let Some((call, side)) = found.copied() else {
            return Some(next);
        };
        let Some(call) = self.calls.get_mut(&call) else {
            return Some(next);
        };
        if let Some(dialog) = &mut call.leg_mut(side).dialog
            && request
                .headers
                .from()
                .ok()
                .and_then(|from| from.tag())
                .as_deref()
                == Some(dialog.local_tag())
        {
            dialog.local_sequence = dialog.local_sequence.max(next - 1) + 1;
            return Some(dialog.local_sequence);
        }
        let (from, to) = (request.headers.from(), request.headers.to());
        let from = from.ok().and_then(|from| from.tag());
        let to = to.ok().and_then(|to| to.tag());
        let mut forks = call.setup.iter_mut().flat_map(|setup| &mut setup.forks);
        let fork = forks.find(|fork| match side {
            Side::A => Some(&fork.local_tag) == from.as_ref(),
            Side::B => Some(&fork.remote_tag) == to.as_ref(),
        });
        if let Some(fork) = fork {
            let last = fork.sequence_to(side);
            *last = (*last).max(next - 1) + 1;
            return Some(*last);
        }
        Some(next)
    }
}

/// The transaction of a call's request has another name.
fn sent_again(call: &mut Call, old: TransactionId, new: TransactionId, request: Request) {
    if let Some(attempt) = call.attempt_mut()
        && attempt.client == Some(old)
    {
        attempt.client = Some(new);
        attempt.outgoing = Some(request);
    } else if let Some(exchange) = &mut call.exchange
        && exchange.client == Some(old)
    {
        exchange.client = Some(new);
        let to = exchange.by.other();
        if let Some(asked) = &mut call.leg_mut(to).asked {
            asked.client = new;
        }
    } else if let Some(setup) = &mut call.setup
        && let Some(carried) = &mut setup.carried
        && carried.client == old
    {
        carried.client = new;
    }
}

/// The first challenge that we can answer: the order is the peer's preference (RFC 8760 §2.4).
fn choose(trunk: &Trunk, by: By, response: &Response) -> Option<Challenge> {
    let realm = trunk.credentials.as_ref()?.realm.as_deref();
    response
        .headers
        .all(by.challenge())
        .take(CHALLENGES)
        .filter_map(|field| Challenge::parse(field.value()))
        .find(|challenge| realm.is_none_or(|realm| realm == challenge.realm))
}

/// Our tag in a request of ours.
pub(super) fn own_tag(request: &Request) -> OwnTag {
    parse_tag(&request.headers.from().ok()?.tag()?)
}

/// Whether a digest-uri is for a request: the two may differ in what a proxy on the way changes
/// and in what senders leave out (RFC 3261 §22.4), but not in who is called.
fn is_for(uri: &str, request: &Request) -> bool {
    let Ok(uri) = uri.parse::<crate::sip::Uri>() else {
        return false;
    };
    match (uri.user_unescaped(), request.uri.user_unescaped()) {
        (Some(theirs), Some(asked)) => theirs == asked,
        _ => true,
    }
}
