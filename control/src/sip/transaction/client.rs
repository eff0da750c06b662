//! Client transactions (RFC 3261 §17.1).

use std::time::Instant;

use bytes::Bytes;
use rand::Rng;

use super::{
    super::{
        CSeq, Flow, Header, HeaderName, Headers, Method, Request, Response, Target, Text,
        Transport, Via,
    },
    SentBy, Timer, TransactionError, TransactionEvent, TransactionId, TransactionLayer,
    slots::{Client, Kind, Role, State, Transaction},
};

/// The longest request that goes in a datagram when the path's MTU is not known (RFC 3261
/// §18.1.1).
const DATAGRAM_OCTETS: usize = 1300;
/// Room for our Via.
const VIA_OCTETS: usize = 100;

impl TransactionLayer {
    /// Sends a request in a transaction of its own. The request has no Via yet: the layer puts
    /// one on top, with a branch, `rport` over UDP (RFC 3581) and `alias` over TLS (RFC 5923).
    ///
    /// # Errors
    /// [`TransactionError::Full`]; [`TransactionError::Request`] when a header that responses are
    /// matched by is missing, or for ACK ([`TransactionLayer::acknowledge`]) and CANCEL
    /// ([`TransactionLayer::cancel`]).
    pub fn request(
        &mut self,
        now: Instant,
        target: Target,
        sent_by: &SentBy,
        mut request: Request,
    ) -> Result<TransactionId, TransactionError> {
        if matches!(request.method, Method::Ack | Method::Cancel)
            || [
                HeaderName::From,
                HeaderName::To,
                HeaderName::CallId,
                HeaderName::CSeq,
            ]
            .into_iter()
            .any(|name| !request.headers.has(name))
        {
            return Err(TransactionError::Request);
        }
        self.room(request.headers.to().is_ok_and(|to| to.tag().is_some()))?;
        let nonce = self.random.random();
        let branch = branch(self.slots.next_id(), nonce);
        put_via(&mut request, &target, sent_by, &branch);
        let wire = request.to_bytes();
        let is_invite = request.method == Method::Invite;
        let role = Role::Client(Client {
            nonce,
            invite: is_invite.then(|| Box::new(essence(&request))),
            cancel_wanted: None,
            cancel: None,
            silent: false,
            by_size: None,
        });
        let kind = if is_invite {
            Kind::InviteClient
        } else {
            Kind::Client
        };
        Ok(self.start_client(now, Transaction::new(kind, target, wire, role)))
    }

    /// As [`TransactionLayer::request`]; one that is too long for a datagram goes over TCP instead
    /// of UDP, and by UDP when no TCP connection comes about (RFC 3261 §18.1.1).
    ///
    /// # Errors
    /// As [`TransactionLayer::request`].
    pub fn request_by_size(
        &mut self,
        now: Instant,
        mut target: Target,
        sent_by: &SentBy,
        request: Request,
    ) -> Result<TransactionId, TransactionError> {
        let is_long = target.transport == Transport::Udp
            && request.to_bytes().len() + VIA_OCTETS > DATAGRAM_OCTETS;
        if !is_long {
            return self.request(now, target, sent_by, request);
        }
        target.transport = Transport::Tcp;
        let kept = (request.clone(), sent_by.clone());
        let id = self.request(now, target, sent_by, request)?;
        if let Some(Transaction {
            role: Role::Client(client),
            ..
        }) = self.slots.get_mut(id)
        {
            client.by_size = Some(Box::new(kept));
        }
        Ok(id)
    }

    /// Sends by UDP what was too long for it and found no TCP. False when that is not the case.
    pub(super) fn fall_back(&mut self, now: Instant, id: TransactionId) -> bool {
        let Some(transaction) = self.slots.get_mut(id) else {
            return false;
        };
        let Role::Client(client) = &mut transaction.role else {
            return false;
        };
        let Some(kept) = client.by_size.take() else {
            return false;
        };
        let (mut request, sent_by) = *kept;
        transaction.target.transport = Transport::Udp;
        transaction.target.connection = None;
        let branch = branch(id, client.nonce);
        put_via(&mut request, &transaction.target, &sent_by, &branch);
        transaction.wire = request.to_bytes();
        let timer = if client.invite.is_some() {
            client.invite = Some(Box::new(essence(&request)));
            Timer::A
        } else {
            Timer::E
        };
        transaction.interval = self.settings.t1;
        transaction.retransmit = Some((now + self.settings.t1, timer));
        let (target, bytes) = (transaction.target.clone(), transaction.wire.clone());
        self.slots.schedule(id);
        self.transmit(target, bytes);
        true
    }

    /// Sends an ACK for a 2xx (RFC 3261 §13.2.2.4), which is no transaction: it gets a Via with a
    /// new branch. Returns the octets, to be sent again by [`TransactionLayer::transmit`] each
    /// time that the 2xx comes again.
    pub fn acknowledge(&mut self, target: Target, sent_by: &SentBy, mut ack: Request) -> Bytes {
        let nonce = self.random.random();
        // No transaction ever has this number, so a response to it finds none.
        let branch = branch(TransactionId(u64::MAX), nonce);
        put_via(&mut ack, &target, sent_by, &branch);
        let bytes = ack.to_bytes();
        self.transmit(target, bytes.clone());
        bytes
    }

    /// Sends a CANCEL for an INVITE of ours, now or when its first provisional response comes
    /// (RFC 3261 §9.1), with a Reason (RFC 3326) if given. The final response, a 487 as a rule
    /// but a 2xx when the two crossed, comes as for any INVITE; without one,
    /// [`TransactionEvent::Timeout`]. Asking twice does nothing more.
    ///
    /// # Errors
    /// [`TransactionError::Unknown`]; [`TransactionError::Answered`] when there has been a final
    /// response.
    pub fn cancel(
        &mut self,
        now: Instant,
        id: TransactionId,
        reason: Option<&str>,
    ) -> Result<(), TransactionError> {
        let transaction = self.slots.get_mut(id).ok_or(TransactionError::Unknown)?;
        let state = transaction.state;
        if transaction.kind != Kind::InviteClient {
            return Err(TransactionError::Unknown);
        }
        let Role::Client(client) = &mut transaction.role else {
            return Err(TransactionError::Unknown);
        };
        match state {
            State::Trying => {
                client
                    .cancel_wanted
                    .get_or_insert_with(|| reason.map(Text::from));
            }
            State::Proceeding => self.send_cancel(now, id, reason),
            _ => return Err(TransactionError::Answered),
        }
        Ok(())
    }

    /// What a request of ours has gone over: TCP also where UDP was meant and it was too long.
    #[must_use]
    pub fn transport(&self, id: TransactionId) -> Option<Transport> {
        let transaction = self.slots.get(id)?;
        Some(transaction.target.transport)
    }

    fn start_client(&mut self, now: Instant, mut transaction: Transaction) -> TransactionId {
        let (retransmit, timeout) = match transaction.kind {
            Kind::InviteClient => (Timer::A, Timer::B),
            _ => (Timer::E, Timer::F),
        };
        transaction.interval = self.settings.t1;
        if !transaction.target.transport.is_reliable() {
            transaction.retransmit = Some((now + self.settings.t1, retransmit));
        }
        transaction.deadline = Some((now + self.settings.patience(), timeout));
        let target = transaction.target.clone();
        let bytes = transaction.wire.clone();
        let id = self.slots.insert(transaction);
        self.slots.schedule(id);
        self.transmit(target, bytes);
        id
    }

    fn send_cancel(&mut self, now: Instant, id: TransactionId, reason: Option<&str>) {
        let patience = self.settings.patience();
        let Some(transaction) = self.slots.get_mut(id) else {
            return;
        };
        let Role::Client(client) = &mut transaction.role else {
            return;
        };
        if client.cancel.is_some() {
            return;
        }
        let Some(invite) = &client.invite else { return };
        let mut cancel = Request::new(Method::Cancel, invite.uri.clone());
        cancel.headers = invite.headers.clone();
        let number = invite.headers.cseq().map_or(1, |cseq| cseq.number);
        cancel
            .headers
            .set(HeaderName::CSeq, CSeq::new(number, Method::Cancel));
        if let Some(reason) = reason {
            cancel.headers.push(HeaderName::Reason, reason);
        }
        transaction.limit = Some((now + patience, Timer::Cancelled));
        let target = transaction.target.clone();
        let role = Role::Client(Client {
            nonce: client.nonce,
            invite: None,
            cancel_wanted: None,
            cancel: None,
            silent: true,
            by_size: None,
        });
        let transaction = Transaction::new(Kind::Client, target, cancel.to_bytes(), role);
        let cancel = self.start_client(now, transaction);
        if let Some(Transaction {
            role: Role::Client(client),
            ..
        }) = self.slots.get_mut(id)
        {
            client.cancel = Some(cancel);
        }
        self.slots.schedule(id);
    }

    /// Timer C: the far end rings and rings (RFC 3261 §16.8).
    pub(super) fn give_up_ringing(&mut self, now: Instant, id: TransactionId) {
        self.send_cancel(now, id, None);
    }

    pub(super) fn receive_response(&mut self, now: Instant, flow: &Flow, response: Response) {
        let Some(id) = self.match_response(&response) else {
            self.counters.stray_responses += 1;
            return;
        };
        let Some(transaction) = self.slots.get_mut(id) else {
            return;
        };
        match transaction.kind {
            Kind::InviteClient => self.invite_response(now, flow, id, response),
            _ => self.other_response(now, flow, id, response),
        }
        self.slots.schedule(id);
    }

    /// RFC 3261 §17.1.3. The branch is ours and holds the transaction's name, so nothing is
    /// looked up.
    fn match_response(&mut self, response: &Response) -> Option<TransactionId> {
        let mut vias = response.headers.elements(HeaderName::Via);
        let via = Via::parse(&vias.next()?)?;
        // A second Via: it was meant for somebody else (RFC 3261 §8.1.3.3).
        if vias.next().is_some() {
            return None;
        }
        let (id, nonce) = read_branch(via.branch()?)?;
        let cseq = response.headers.cseq().ok()?;
        let transaction = self.slots.get_mut(id)?;
        let Role::Client(client) = &transaction.role else {
            return None;
        };
        if client.nonce != nonce {
            return None;
        }
        match (transaction.kind, cseq.method) {
            (Kind::InviteClient, Method::Invite) => Some(id),
            (Kind::InviteClient, Method::Cancel) => client.cancel,
            (Kind::Client, method) if method != Method::Invite && method != Method::Cancel => {
                Some(id)
            }
            _ => None,
        }
    }

    fn invite_response(
        &mut self,
        now: Instant,
        flow: &Flow,
        id: TransactionId,
        response: Response,
    ) {
        let settings = self.settings;
        let Some(transaction) = self.slots.get_mut(id) else {
            return;
        };
        let Role::Client(client) = &mut transaction.role else {
            return;
        };
        client.by_size = None;
        match (transaction.state, response.status) {
            (State::Trying | State::Proceeding, ..200) => {
                transaction.state = State::Proceeding;
                transaction.retransmit = None;
                transaction.deadline = None;
                let cancelled = matches!(transaction.limit, Some((_, Timer::Cancelled)));
                if !cancelled && (transaction.limit.is_none() || response.status > 100) {
                    transaction.limit = Some((now + settings.timer_c, Timer::C));
                }
                let wanted = client.cancel_wanted.take();
                self.tell_response(id, flow, response);
                if let Some(reason) = wanted {
                    self.send_cancel(now, id, reason.as_deref());
                }
            }
            (State::Trying | State::Proceeding, 200..300) => {
                transaction.state = State::Accepted;
                transaction.retransmit = None;
                transaction.limit = None;
                transaction.deadline = Some((now + settings.patience(), Timer::M));
                // From here on the dialog sends the ACKs: half a minute of a call's memory saved.
                transaction.wire = Bytes::new();
                client.invite = None;
                self.tell_response(id, flow, response);
            }
            (State::Accepted, 200..300) => self.tell_response(id, flow, response),
            (State::Trying | State::Proceeding, _) => {
                let ack = client
                    .invite
                    .take()
                    .map(|invite| refusal_ack(&invite, &response).to_bytes())
                    .unwrap_or_default();
                transaction.state = State::Completed;
                transaction.retransmit = None;
                transaction.limit = None;
                transaction.wire = ack.clone();
                let target = transaction.target.clone();
                let reliable = target.transport.is_reliable();
                // D is at least 32 seconds (RFC 3261 §17.1.1.2).
                transaction.deadline = (!reliable).then(|| (now + settings.patience(), Timer::D));
                self.transmit(target, ack);
                self.tell_response(id, flow, response);
                if reliable {
                    self.fire(now, id, Timer::D);
                }
            }
            (State::Completed, 300..) => {
                let (target, ack) = (transaction.target.clone(), transaction.wire.clone());
                self.counters.absorbed_responses += 1;
                self.transmit(target, ack);
            }
            _ => self.counters.absorbed_responses += 1,
        }
    }

    fn other_response(&mut self, now: Instant, flow: &Flow, id: TransactionId, response: Response) {
        let settings = self.settings;
        let Some(transaction) = self.slots.get_mut(id) else {
            return;
        };
        match (transaction.state, response.status) {
            (State::Trying | State::Proceeding, ..200) => {
                transaction.state = State::Proceeding;
                self.tell_response(id, flow, response);
            }
            (State::Trying | State::Proceeding, _) => {
                let reliable = transaction.target.transport.is_reliable();
                transaction.state = State::Completed;
                transaction.retransmit = None;
                transaction.wire = Bytes::new();
                transaction.deadline = (!reliable).then(|| (now + settings.t4, Timer::K));
                self.tell_response(id, flow, response);
                if reliable {
                    self.fire(now, id, Timer::K);
                }
            }
            _ => self.counters.absorbed_responses += 1,
        }
    }

    fn tell_response(&mut self, id: TransactionId, flow: &Flow, response: Response) {
        let flow = flow.clone();
        self.tell(id, TransactionEvent::Response { id, flow, response });
    }
}

fn put_via(request: &mut Request, target: &Target, sent_by: &SentBy, branch: &str) {
    let mut parameters = format!(
        "SIP/2.0/{} {}",
        target.transport.via_name(),
        sent_by.host.as_str()
    );
    if let Some(port) = sent_by.port {
        parameters.push_str(&format!(":{port}"));
    }
    parameters.push_str(";branch=");
    parameters.push_str(branch);
    match target.transport {
        Transport::Udp => parameters.push_str(";rport"),
        Transport::Tls => parameters.push_str(";alias"),
        Transport::Tcp => {}
    }
    request.headers.remove(HeaderName::Via);
    request.headers.push_first(HeaderName::Via, parameters);
}

/// What an ACK or a CANCEL takes over from its INVITE (RFC 3261 §9.1, §17.1.1.3).
fn essence(invite: &Request) -> Request {
    let mut headers = Headers::new();
    headers.extend(
        invite
            .headers
            .iter()
            .filter(|field| {
                matches!(
                    field.known_name(),
                    Some(
                        HeaderName::Via
                            | HeaderName::From
                            | HeaderName::To
                            | HeaderName::CallId
                            | HeaderName::CSeq
                            | HeaderName::Route
                    )
                )
            })
            .cloned(),
    );
    headers.push_header(Header::new(HeaderName::MaxForwards, 70));
    Request {
        method: Method::Invite,
        uri: invite.uri.clone(),
        headers,
        body: Bytes::new(),
    }
}

/// The ACK for a final response that is no 2xx (RFC 3261 §17.1.1.3): To is the response's.
fn refusal_ack(invite: &Request, response: &Response) -> Request {
    let mut headers = invite.headers.clone();
    let number = invite.headers.cseq().map_or(1, |cseq| cseq.number);
    headers.set(HeaderName::CSeq, CSeq::new(number, Method::Ack));
    if let Some(to) = response.headers.get(HeaderName::To) {
        headers.set(HeaderName::To, to.value().clone());
    }
    Request {
        method: Method::Ack,
        uri: invite.uri.clone(),
        headers,
        body: Bytes::new(),
    }
}

/// The transaction's name and its nonce, behind the cookie.
fn branch(id: TransactionId, nonce: u64) -> String {
    format!("{}{:016x}{nonce:016x}", Via::COOKIE, id.0)
}

fn read_branch(branch: &str) -> Option<(TransactionId, u64)> {
    let digits = branch.strip_prefix(Via::COOKIE)?;
    if digits.len() != 32 {
        return None;
    }
    let number = |part: Option<&str>| u64::from_str_radix(part?, 16).ok();
    Some((
        TransactionId(number(digits.get(..16))?),
        number(digits.get(16..))?,
    ))
}
