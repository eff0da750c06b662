//! Whose request it is: which of the trunks that share an address.

use std::sync::Arc;

use relay_user::media::MediaPlane;

use super::{Core, Discard, core::parse_tag, trunk::Trunk};
use crate::sip::{Flow, Method, Request, Response};

/// Why a request belongs to no trunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stranger {
    /// No trunk admits where it came from.
    Source,
    /// Several do, and it names none of them.
    Tenant,
}

impl<M: MediaPlane> Core<M> {
    /// The trunks of now that may be behind a way.
    fn trunks_at<'t>(&'t self, flow: &'t Flow) -> impl Iterator<Item = &'t Arc<Trunk>> {
        let source = flow.remote.ip();
        self.trunks.iter().filter(move |trunk| {
            trunk.listen == flow.local && trunk.speaks(flow.transport) && trunk.admits(source)
        })
    }

    /// One that may be behind a way, when more is not known.
    pub(super) fn some_trunk_of(&self, flow: &Flow) -> Option<Arc<Trunk>> {
        self.trunks_at(flow).next().cloned()
    }

    /// The trunk that a request came from. Where several trunks share the address and admit the
    /// source, it is the one of the dialog, of the host in the Request-URI, of the host in To, or
    /// the one that TLS was opened for. Inside a dialog, the trunk that the call began with may
    /// still admit a source that the settings of now do not.
    pub(super) fn trunk_for(&self, flow: &Flow, request: &Request) -> Result<Arc<Trunk>, Stranger> {
        let mut trunks = self.trunks_at(flow);
        let (Some(first), second) = (trunks.next(), trunks.next()) else {
            let dialogs = self.dialogs_trunk(request);
            return dialogs
                .filter(|trunk| trunk.admits(flow.remote.ip()))
                .ok_or(Stranger::Source);
        };
        if second.is_none() {
            return Ok(Arc::clone(first));
        }
        if let Some(trunk) = self.dialogs_trunk(request)
            && self.trunks_at(flow).any(|known| known.name == trunk.name)
        {
            return Ok(trunk);
        }
        let called = request.uri.as_sip().map(|uri| uri.host.clone());
        let to = request.headers.to().ok();
        let to = to.and_then(|to| Some(to.uri.as_sip()?.host.clone()));
        let names = [called.as_deref(), to.as_deref(), flow.own_name.as_deref()];
        names
            .into_iter()
            .flatten()
            .find_map(|name| {
                self.trunks_at(flow).find(|trunk| {
                    let domain = trunk.domain.as_ref();
                    domain.is_some_and(|domain| domain.as_str().eq_ignore_ascii_case(name))
                })
            })
            .cloned()
            .ok_or(Stranger::Tenant)
    }

    /// Whether a request is taken: from a trunk, or for one that is being served already. The
    /// settings may have changed since that came, and its CANCEL and ACK name no dialog of ours.
    pub(super) fn admit(&self, flow: &Flow, request: &Request) -> Result<(), Stranger> {
        match self.trunk_for(flow, request) {
            Err(stranger) if !self.transactions.serves(flow, request) => Err(stranger),
            _ => Ok(()),
        }
    }

    /// The trunk of the leg that a request is for.
    fn dialogs_trunk(&self, request: &Request) -> Option<Arc<Trunk>> {
        let tag = request.headers.to().ok()?.tag()?;
        let (id, side) = self.tags.get(&parse_tag(&tag)?)?;
        Some(Arc::clone(&self.calls.get(id)?.leg(*side).trunk))
    }

    /// Answers a request that names no tenant (RFC 3261 §21.4.5).
    pub(super) fn refuse_tenant(&mut self, flow: &Flow, request: &Request) {
        self.statistics.discard(Discard::UnknownTenant);
        if request.method != Method::Ack {
            let (_, tag) = self.new_tag();
            let response = Response::to_request(request, 404, Some(&tag));
            self.transactions.respond_statelessly(flow, response);
        }
    }
}
