//! OPTIONS of our own, and what calls find out about an address.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use relay_user::media::MediaPlane;

use super::{
    super::{
        Core, Output,
        headers::{MAX_FORWARDS, SDP, identify},
        routing::{called_host, to_destination},
        trunk::Trunk,
        wire::{Client, Failure},
    },
    APART, Cause, Heard, Peer, PeerEvent, PeerId, Probe,
};
use crate::{
    config::Destination,
    sip::{CSeq, Flow, HeaderName, Method, NameAddress, Request, Response, SipUri, TransactionId},
};

impl<M: MediaPlane> Core<M> {
    /// From now on asks the addresses of the trunks by OPTIONS, each as often as its trunk wants.
    pub fn watch(&mut self, now: Instant) {
        self.peers.watching = true;
        self.renew_peers(now);
    }

    /// The trunks or their addresses have changed.
    pub(in super::super) fn renew_peers(&mut self, now: Instant) {
        let gone = self.peers.renew(&self.trunks);
        for peer in gone {
            self.timers.clear(peer.timer);
        }
        let mut new = 0;
        for trunk in self.trunks.clone() {
            let interval = trunk.asks_every().filter(|_| self.peers.watching);
            let ids: Vec<PeerId> = self
                .peers
                .of(&trunk.name)
                .iter()
                .map(|peer| peer.id)
                .collect();
            for id in ids {
                let Some(peer) = self.peers.get_mut(id) else {
                    continue;
                };
                match interval {
                    None => {
                        peer.next_ask = None;
                        if let Some(open) = &mut peer.open {
                            // Nobody will ask whether it is back.
                            open.until.get_or_insert(now + super::REST);
                        }
                    }
                    Some(interval) => {
                        let latest = now + interval;
                        let first = now + (APART * new).min(interval);
                        new += u32::from(peer.next_ask.is_none());
                        peer.next_ask = Some(peer.next_ask.unwrap_or(first).min(latest));
                    }
                }
                self.arm(id);
            }
        }
    }

    /// Sets the timer of an address to what is next about it.
    fn arm(&mut self, id: PeerId) {
        if let Some(peer) = self.peers.get_mut(id) {
            self.timers.clear(peer.timer.take());
            peer.timer = peer.due().map(|due| self.timers.set_peer(due, id));
        }
    }

    /// Something is due about an address.
    pub(in super::super) fn peer_due(&mut self, now: Instant, id: PeerId) {
        let Some((trunk, peer)) = self.peer(id) else {
            return;
        };
        peer.timer = None;
        let is_asked = trunk.asks_every().is_some();
        let is_over = |until: Option<Instant>| until.is_some_and(|until| until <= now);
        let mut closed = false;
        if let Some(open) = peer.open.as_mut().filter(|open| is_over(open.until)) {
            open.until = None;
            open.told = false;
            closed = (open.alive || !is_asked) && peer.close(now);
        }
        let unanswered = is_over(peer.probe.as_ref().map(|probe| probe.deadline));
        self.tell(id, closed);
        if unanswered {
            self.unanswered(now, id, Heard::Nothing);
        }
        let asks = self
            .peers
            .get_mut(id)
            .is_some_and(|peer| peer.probe.is_none() && is_over(peer.next_ask));
        if asks {
            self.ask_peer(now, id);
        }
        self.arm(id);
    }

    /// An address with its trunk of now.
    fn peer(&mut self, id: PeerId) -> Option<(Arc<Trunk>, &mut Peer)> {
        let name = self.peers.names.get(&id)?;
        let trunk = self.trunks.iter().find(|trunk| trunk.name == *name)?;
        Some((Arc::clone(trunk), self.peers.get_mut(id)?))
    }

    /// Sends OPTIONS to an address (RFC 3261 §11.1).
    fn ask_peer(&mut self, now: Instant, id: PeerId) {
        // Who is told that we take no calls is not to be told that we are there.
        let draining = self.draining;
        let Some((trunk, peer)) = self.peer(id) else {
            return;
        };
        peer.next_ask = trunk.asks_every().filter(|_| !draining).map(|it| now + it);
        if peer.next_ask.is_none() {
            return;
        }
        let destination = peer.destination.clone();
        let request = self.options(&trunk, &destination);
        let client = Client::Options {
            trunk: Arc::clone(&trunk),
            peer: id,
        };
        let target = to_destination(&trunk, &destination);
        let sent = self.send(now, &trunk, target, request, client);
        if let (Some(transaction), Some(peer)) = (sent, self.peers.get_mut(id)) {
            peer.probe = Some(Probe {
                transaction,
                sent: now,
                deadline: now + trunk.answers_within(),
            });
        }
    }

    fn options(&mut self, trunk: &Trunk, destination: &Destination) -> Request {
        let uri = called_host(trunk, destination);
        let mut request = Request::new(Method::Options, uri.clone().into());
        let (_, tag) = self.new_tag();
        let from = NameAddress::new(SipUri::new(None, &trunk.host, None)).with_tag(&tag);
        let call_id = self.new_sip_call_id();
        let headers = &mut request.headers;
        headers.push(HeaderName::MaxForwards, MAX_FORWARDS);
        headers.push(HeaderName::From, from);
        headers.push(HeaderName::To, NameAddress::new(uri));
        headers.push(HeaderName::CallId, call_id);
        headers.push(HeaderName::CSeq, CSeq::new(1, Method::Options));
        headers.push(HeaderName::Accept, SDP);
        identify(&mut request, trunk);
        request
    }

    /// An OPTIONS of ours has its final answer.
    pub(in super::super) fn on_options_answer(
        &mut self,
        now: Instant,
        transaction: TransactionId,
        id: PeerId,
        response: &Response,
    ) {
        let Some((trunk, peer)) = self.peer(id) else {
            return;
        };
        // One that comes after its time shows all the same what holds now.
        if let Some(probe) = peer.probe.take_if(|probe| probe.transaction == transaction) {
            peer.round_trip = Some(now.saturating_duration_since(probe.sent));
        }
        let status = response.status;
        peer.last = Some((now, Heard::Status(status)));
        peer.answered = Some(now);
        peer.asked_again = false;
        if trunk.options.down_codes.contains(&status) {
            let retry_after = retry_after(response);
            let opened = peer.open(now, Cause::OptionsRefused(status), true, retry_after);
            self.tell(id, opened);
        } else {
            let closed = peer.alive(now);
            self.tell(id, closed);
        }
        self.arm(id);
    }

    /// An OPTIONS of ours was not answered.
    pub(in super::super) fn on_options_failure(
        &mut self,
        now: Instant,
        transaction: TransactionId,
        id: PeerId,
        failure: Failure,
    ) {
        let waits = self
            .peers
            .get_mut(id)
            .and_then(|peer| peer.probe.as_ref())
            .is_some_and(|probe| probe.transaction == transaction);
        // Without a probe its time was over long ago.
        if waits {
            let heard = match failure {
                Failure::Timeout => Heard::Nothing,
                Failure::Transport => Heard::NoConnection,
            };
            self.unanswered(now, id, heard);
            self.arm(id);
        }
    }

    /// The OPTIONS that waits at an address has failed.
    fn unanswered(&mut self, now: Instant, id: PeerId, heard: Heard) {
        let Some((trunk, peer)) = self.peer(id) else {
            return;
        };
        peer.probe = None;
        let broke = heard == Heard::NoConnection;
        // A connection that was open for long may just have been closed by the peer.
        if broke && peer.open.is_none() && !peer.asked_again {
            peer.asked_again = true;
            peer.next_ask = Some(now);
            return;
        }
        peer.asked_again = false;
        peer.last = Some((now, heard));
        peer.round_trip = None;
        let grace = trunk.heard_within();
        let is_fresh = peer.heard.is_some_and(|heard| now < heard + grace);
        if broke || !is_fresh {
            let cause = if broke {
                Cause::OptionsNotSent
            } else {
                Cause::OptionsUnanswered
            };
            let opened = peer.open(now, cause, true, None);
            self.tell(id, opened);
        }
    }

    /// A connection of ours was closed: OPTIONS that wait for an answer over it wait in vain.
    pub(in super::super) fn options_closed(&mut self, now: Instant, flow: &Flow) {
        let waiting: Vec<PeerId> = self
            .trunks
            .iter()
            .filter(|trunk| trunk.listen.ip() == flow.local.ip())
            .flat_map(|trunk| self.peers.of(&trunk.name))
            .filter(|peer| {
                let over = |probe: &Probe| self.transactions.transport(probe.transaction);
                let over = peer.probe.as_ref().and_then(over);
                peer.address() == flow.remote && over == Some(flow.transport)
            })
            .map(|peer| peer.id)
            .collect();
        for id in waiting {
            self.unanswered(now, id, Heard::NoConnection);
            self.arm(id);
        }
    }

    /// A call's INVITE to an address was answered somehow.
    pub(in super::super) fn call_answered(
        &mut self,
        now: Instant,
        trunk: &Trunk,
        address: SocketAddr,
        response: &Response,
    ) {
        let is_asked = trunk.asks_every().is_some();
        let Some(peer) = self.peers.at(&trunk.name, address) else {
            return;
        };
        let id = peer.id;
        peer.answered = Some(now);
        if response.status == 503 {
            let retry_after = retry_after(response);
            // Without Retry-After it is like a 500 (RFC 3261 §21.5.4), unless OPTIONS find out soon
            // what it means.
            if is_asked || retry_after.is_some() {
                self.found_down(now, id, Cause::CallRefused, retry_after);
            }
        } else if !is_asked && peer.alive(now) {
            self.tell(id, true);
            self.arm(id);
        }
    }

    /// A call's INVITE to an address has met nobody.
    pub(in super::super) fn call_unanswered(
        &mut self,
        now: Instant,
        trunk: &str,
        address: SocketAddr,
        sent: Instant,
        failure: Failure,
    ) {
        let Some(peer) = self.peers.at(trunk, address) else {
            return;
        };
        // Others were answered meanwhile, or OPTIONS: then it is the call's own fault.
        if peer.answered.is_none_or(|answered| answered < sent) {
            let id = peer.id;
            let cause = match failure {
                Failure::Timeout => Cause::CallUnanswered,
                Failure::Transport => Cause::CallNotSent,
            };
            self.found_down(now, id, cause, None);
        }
    }

    /// A call has found an address out of service.
    fn found_down(
        &mut self,
        now: Instant,
        id: PeerId,
        cause: Cause,
        retry_after: Option<Duration>,
    ) {
        let Some((trunk, peer)) = self.peer(id) else {
            return;
        };
        let is_asked = trunk.asks_every().is_some();
        let opened = peer.open(now, cause, is_asked, retry_after);
        if opened && peer.next_ask.is_some() && trunk.asks_at_once() {
            peer.next_ask = Some(now);
        }
        self.tell(id, opened);
        self.arm(id);
    }

    /// Teams wants a connection closed over which it has asked to be left alone.
    pub(in super::super) fn close_refused(
        &mut self,
        trunk: &Trunk,
        response: &Response,
        flow: &Flow,
    ) {
        if trunk.sip.is_teams()
            && response.status == 503
            && response.headers.has(HeaderName::RetryAfter)
            && flow.connection.is_some()
        {
            self.outputs.push_back(Output::Close(flow.clone()));
        }
    }

    /// Tells how an address is now, when that has changed.
    fn tell(&mut self, id: PeerId, changed: bool) {
        if changed && let Some((trunk, peer)) = self.peer(id) {
            let event = PeerEvent {
                trunk: Arc::clone(&trunk.name),
                address: peer.address(),
                down: peer.open.as_ref().map(|open| open.why.to_string()),
            };
            self.outputs.push_back(Output::Peer(event));
        }
    }
}

/// How long the peer asks to be left alone.
fn retry_after(response: &Response) -> Option<Duration> {
    let seconds = response.headers.number(HeaderName::RetryAfter).ok()??;
    Some(Duration::from_secs(seconds.into()))
}
