//! Server transactions (RFC 3261 §17.2).

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    time::Instant,
};

use bytes::Bytes;

use super::{
    super::{Flow, Header, HeaderName, Method, Request, Response, Text, Via, parse::steady_tag},
    Timer, TransactionError, TransactionEvent, TransactionId, TransactionLayer, response_target,
    slots::{Kind, Role, Server, State, Transaction},
};

/// What a request is matched by (RFC 3261 §17.2.3): branch, `sent-by`, and the method, where an
/// ACK counts as its INVITE.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct ServerKey {
    branch: Text,
    host: Text,
    port: Option<u16>,
    method: Method,
}

impl ServerKey {
    fn new(via: &Via, request: &Request) -> Option<Self> {
        let branch = if via.has_cookie() {
            via.parameters.get_shared("branch")?
        } else {
            old_branch(via, request).into()
        };
        let method = &request.method;
        Some(Self {
            branch,
            host: via.host.clone(),
            port: via.port,
            method: match method {
                Method::Ack => Method::Invite,
                other => other.clone(),
            },
        })
    }

    /// The same without the message that it was read from: it outlives that by half a minute.
    fn copied(&self) -> Self {
        Self {
            branch: self.branch.copied(),
            host: self.host.copied(),
            ..self.clone()
        }
    }
}

/// Stands for the branch of a request as RFC 2543 had it: what is the same in an INVITE, its ACK
/// and its CANCEL (RFC 3261 §17.2.3). To is left out: the tag in an ACK's is our own.
fn old_branch(via: &Via, request: &Request) -> String {
    let mut hasher = DefaultHasher::new();
    let headers = &request.headers;
    via.to_string().hash(&mut hasher);
    request.uri.to_string().hash(&mut hasher);
    for name in [HeaderName::From, HeaderName::CallId] {
        headers.get(name).map(Header::value).hash(&mut hasher);
    }
    headers
        .cseq()
        .ok()
        .map(|cseq| cseq.number)
        .hash(&mut hasher);
    format!("RFC 2543 {:016x}", hasher.finish())
}

impl TransactionLayer {
    /// Answers a request. A 2xx to an INVITE can be given again and again (RFC 3261 §13.3.1.4,
    /// [`SuccessRetransmission`](super::SuccessRetransmission)).
    ///
    /// # Errors
    /// [`TransactionError::Unknown`], [`TransactionError::Answered`].
    pub fn respond(
        &mut self,
        now: Instant,
        id: TransactionId,
        response: &Response,
    ) -> Result<(), TransactionError> {
        let settings = self.settings;
        let transaction = self.slots.get_mut(id).ok_or(TransactionError::Unknown)?;
        let Role::Server(server) = &mut transaction.role else {
            return Err(TransactionError::Unknown);
        };
        let reliable = transaction.target.transport.is_reliable();
        let target = transaction.target.clone();
        let bytes = response.to_bytes();
        if server.tag.is_none() && response.status > 100 {
            server.tag = response.headers.to().ok().and_then(|to| to.tag());
        }
        let mut over = None;
        match (transaction.kind, transaction.state, response.status) {
            (_, State::Trying | State::Proceeding, ..200) => {
                transaction.state = State::Proceeding;
                transaction.wire = bytes.clone();
            }
            (Kind::InviteServer, State::Trying | State::Proceeding, 200..300) => {
                transaction.state = State::Accepted;
                // The dialog sends the 2xx again, not the transaction.
                transaction.wire = Bytes::new();
                transaction.deadline = Some((now + settings.patience(), Timer::L));
            }
            (Kind::InviteServer, State::Accepted, 200..300) => {}
            (Kind::InviteServer, State::Trying | State::Proceeding, _) => {
                transaction.state = State::Completed;
                transaction.wire = bytes.clone();
                transaction.interval = settings.t1;
                if !reliable {
                    transaction.retransmit = Some((now + settings.t1, Timer::G));
                }
                transaction.deadline = Some((now + settings.patience(), Timer::H));
            }
            (Kind::Server, State::Trying | State::Proceeding, _) => {
                transaction.state = State::Completed;
                transaction.deadline = (!reliable).then(|| (now + settings.patience(), Timer::J));
                if reliable {
                    over = Some(Timer::J);
                } else {
                    transaction.wire = bytes.clone();
                }
            }
            _ => return Err(TransactionError::Answered),
        }
        self.transmit(target, bytes);
        if let Some(timer) = over {
            self.fire(now, id, timer);
        }
        self.slots.schedule(id);
        Ok(())
    }

    /// Where the responses of a server transaction go: for a
    /// [`SuccessRetransmission`](super::SuccessRetransmission).
    ///
    /// # Errors
    /// [`TransactionError::Unknown`].
    pub fn response_target(
        &mut self,
        id: TransactionId,
    ) -> Result<super::super::Target, TransactionError> {
        match self.slots.get_mut(id) {
            Some(transaction) if matches!(transaction.role, Role::Server(_)) => {
                Ok(transaction.target.clone())
            }
            _ => Err(TransactionError::Unknown),
        }
    }

    pub(super) fn receive_request(&mut self, now: Instant, flow: &Flow, mut request: Request) {
        let Ok(mut via) = request.headers.via() else {
            return;
        };
        if via.mark_received(flow.remote) {
            request.headers.set_first(HeaderName::Via, &via);
        }
        let Some(key) = ServerKey::new(&via, &request) else {
            return;
        };
        let known = self.servers.get(&key).copied();
        match (known, &request.method) {
            (Some(id), Method::Ack) => self.receive_ack(now, id, flow, request),
            (Some(id), _) => self.absorb(id),
            (None, Method::Ack) => {
                let flow = flow.clone();
                self.push(TransactionEvent::Ack { flow, request });
            }
            (None, Method::Cancel) => self.receive_cancel(now, key, &via, flow, request),
            (None, _) => self.start_server(now, key, &via, flow, request),
        }
    }

    /// Whether a request belongs to one from the same host that has a transaction: a copy of it, its
    /// CANCEL, or the ACK of its refusal.
    #[must_use]
    pub fn serves(&self, flow: &Flow, request: &Request) -> bool {
        let Ok(mut via) = request.headers.via() else {
            return false;
        };
        via.mark_received(flow.remote);
        let Some(mut key) = ServerKey::new(&via, request) else {
            return false;
        };
        if key.method == Method::Cancel {
            key.method = Method::Invite;
        }
        let served = self.servers.get(&key).and_then(|id| self.slots.get(*id));
        served.is_some_and(|served| {
            let target = &served.target;
            (target.local, target.remote.ip()) == (flow.local, flow.remote.ip())
        })
    }

    /// How many transactions there may be, before one more begins.
    pub(super) fn room(&self, in_dialog: bool) -> Result<(), TransactionError> {
        let limit = self.settings.transactions;
        let most = if in_dialog { limit + limit / 4 } else { limit };
        if self.slots.len() >= most {
            return Err(TransactionError::Full { limit });
        }
        Ok(())
    }

    fn push(&mut self, event: TransactionEvent) {
        self.outputs
            .push_back(super::TransactionOutput::Event(event));
    }

    fn refuse_overload(&mut self, flow: &Flow, request: &Request) {
        self.counters.overloaded += 1;
        let tag = steady_tag(&request.headers);
        let response = Response::to_request(request, 503, Some(&tag))
            .with(HeaderName::RetryAfter, self.settings.retry_after);
        self.respond_statelessly(flow, response);
    }

    fn start_server(
        &mut self,
        now: Instant,
        key: ServerKey,
        via: &Via,
        flow: &Flow,
        request: Request,
    ) {
        let in_dialog = request.headers.to().is_ok_and(|to| to.tag().is_some());
        if self.room(in_dialog).is_err() {
            return self.refuse_overload(flow, &request);
        }
        let kind = if request.method == Method::Invite {
            Kind::InviteServer
        } else {
            Kind::Server
        };
        let id = self.insert_server(now, kind, key, via, flow, false);
        if kind == Kind::InviteServer {
            // Nobody knows how fast the far side is, so the 100 is not delayed by 200 ms.
            let trying = Response::to_request(&request, 100, None);
            let _ = self.respond(now, id, &trying);
        }
        let flow = flow.clone();
        self.push(TransactionEvent::Request { id, flow, request });
    }

    fn insert_server(
        &mut self,
        now: Instant,
        kind: Kind,
        key: ServerKey,
        via: &Via,
        flow: &Flow,
        silent: bool,
    ) -> TransactionId {
        let key = key.copied();
        let role = Role::Server(Server {
            key: key.clone(),
            tag: None,
            silent,
        });
        let mut transaction =
            Transaction::new(kind, response_target(flow, via), Bytes::new(), role);
        if kind == Kind::Server {
            // The sender's last copy leaves shortly before it gives up, and may take T4 to arrive:
            // it must still find this transaction.
            let wait = self.settings.patience() + self.settings.t4;
            transaction.deadline = Some((now + wait, Timer::Unanswered));
        }
        let id = self.slots.insert(transaction);
        self.servers.insert(key, id);
        self.slots.schedule(id);
        id
    }

    /// RFC 3261 §9.2.
    fn receive_cancel(
        &mut self,
        now: Instant,
        key: ServerKey,
        via: &Via,
        flow: &Flow,
        request: Request,
    ) {
        let invite = ServerKey {
            method: Method::Invite,
            ..key.clone()
        };
        let Some(invite) = self.servers.get(&invite).copied() else {
            self.counters.stray_cancels += 1;
            let tag = steady_tag(&request.headers);
            let response = Response::to_request(&request, 481, Some(&tag));
            return self.respond_statelessly(flow, response);
        };
        if self.room(true).is_err() {
            return self.refuse_overload(flow, &request);
        }
        let Some(transaction) = self.slots.get_mut(invite) else {
            return;
        };
        let pending = matches!(transaction.state, State::Trying | State::Proceeding);
        let tag = match &transaction.role {
            Role::Server(Server { tag: Some(tag), .. }) => tag.as_str().to_owned(),
            _ => steady_tag(&request.headers),
        };
        let id = self.insert_server(now, Kind::Server, key, via, flow, true);
        let _ = self.respond(now, id, &Response::to_request(&request, 200, Some(&tag)));
        // With a final response sent, a CANCEL changes nothing.
        if pending {
            let flow = flow.clone();
            self.push(TransactionEvent::Cancel {
                invite,
                flow,
                request,
            });
        }
    }

    fn receive_ack(&mut self, now: Instant, id: TransactionId, flow: &Flow, request: Request) {
        let t4 = self.settings.t4;
        let Some(transaction) = self.slots.get_mut(id) else {
            return;
        };
        match transaction.state {
            State::Completed => {
                let reliable = transaction.target.transport.is_reliable();
                transaction.state = State::Confirmed;
                transaction.retransmit = None;
                transaction.wire = Bytes::new();
                transaction.deadline = (!reliable).then(|| (now + t4, Timer::I));
                if reliable {
                    self.fire(now, id, Timer::I);
                }
                self.slots.schedule(id);
            }
            State::Accepted => {
                let flow = flow.clone();
                self.push(TransactionEvent::Ack { flow, request });
            }
            _ => self.counters.absorbed_requests += 1,
        }
    }

    /// A request came again: what was last answered goes out again.
    fn absorb(&mut self, id: TransactionId) {
        self.counters.absorbed_requests += 1;
        let Some(transaction) = self.slots.get_mut(id) else {
            return;
        };
        if matches!(transaction.state, State::Proceeding | State::Completed)
            && !transaction.wire.is_empty()
        {
            let (target, bytes) = (transaction.target.clone(), transaction.wire.clone());
            self.counters.retransmissions += 1;
            self.transmit(target, bytes);
        }
    }
}
