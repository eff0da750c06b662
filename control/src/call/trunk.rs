//! A trunk as the calls over it see it: its settings, and who we are towards it.

use std::{ops::Deref, sync::Arc};

use crate::{
    config::{self, Settings},
    sdp::CodecFilter,
    sip::{SentBy, SipUri, Text, Transport},
};

/// A trunk of one generation of the settings. A call keeps the one that it began with.
#[derive(Debug)]
pub(super) struct Trunk {
    settings: Arc<Settings>,
    index: usize,
    pub(super) name: Arc<str>,
    /// Our host in Contact, From and Via.
    pub(super) host: Text,
    pub(super) transport: Transport,
    /// The name that we go by over TLS.
    pub(super) own_name: Option<Arc<str>>,
    /// Whose trunk it is.
    pub(super) tenant_name: Option<Arc<str>>,
    /// Our Via.
    pub(super) sent_by: SentBy,
    /// The codecs that it lets through, shared by its calls.
    pub(super) codec_filter: CodecFilter,
    contact_uri: SipUri,
    /// The methods that it may use.
    pub(super) allow: Text,
    /// The extensions that it may use; empty when there is none.
    pub(super) supported: Text,
}

impl Trunk {
    /// Every trunk of the settings, in their order.
    pub(super) fn all(settings: &Arc<Settings>) -> Vec<Arc<Self>> {
        (0..settings.trunks.len())
            .filter_map(|index| Self::new(settings, index).map(Arc::new))
            .collect()
    }

    fn new(settings: &Arc<Settings>, index: usize) -> Option<Self> {
        let trunk = settings.trunks.get(index)?;
        let host = trunk
            .domain
            .as_ref()
            .map_or_else(|| trunk.listen.ip().to_string(), ToString::to_string);
        let transport = trunk.transport;
        let mut contact = SipUri::new(None, &host, Some(trunk.listen.port()));
        if transport != Transport::Udp {
            contact.parameters.set("transport", transport.parameter());
        }
        Some(Self {
            settings: Arc::clone(settings),
            index,
            name: trunk.name.as_str().into(),
            host: contact.host.clone(),
            transport,
            own_name: trunk.own_name().map(Arc::from),
            tenant_name: trunk.tenant.as_deref().map(Arc::from),
            sent_by: SentBy {
                host: contact.host.clone(),
                port: contact.port,
            },
            codec_filter: CodecFilter::new(&trunk.codecs),
            contact_uri: contact,
            allow: allow(&trunk.sip).into(),
            supported: supported(&trunk.sip).into(),
        })
    }

    /// What its tenant may have.
    pub(super) fn tenant_limits(&self) -> Option<&config::CallLimits> {
        let name = self.tenant_name.as_deref()?;
        let mut tenants = self.settings.tenants.iter();
        let tenant = tenants.find(|tenant| tenant.name == name)?;
        Some(&tenant.limits)
    }

    /// Our Contact towards the trunk (RFC 3261 §8.1.1.8): our name or address, the port that we
    /// listen on, and the transport unless it is UDP.
    pub(super) fn contact(&self, user: Option<&Text>) -> SipUri {
        SipUri {
            user: user.cloned(),
            ..self.contact_uri.clone()
        }
    }
}

fn allow(sip: &config::Signalling) -> String {
    let mut methods = vec!["INVITE, ACK, CANCEL, BYE, OPTIONS, INFO, NOTIFY"];
    for (is_served, method) in [
        (sip.takes_refer(), "REFER"),
        (sip.uses_prack(), "PRACK"),
        (sip.uses_update(), "UPDATE"),
    ] {
        if is_served {
            methods.push(method);
        }
    }
    methods.join(", ")
}

fn supported(sip: &config::Signalling) -> String {
    let mut options = vec!["timer"];
    for (is_served, option) in [
        (sip.takes_replaces(), "replaces"),
        (sip.uses_prack(), "100rel"),
    ] {
        if is_served {
            options.push(option);
        }
    }
    options.join(", ")
}

impl Deref for Trunk {
    type Target = config::Trunk;

    fn deref(&self) -> &config::Trunk {
        // `new` has seen that the index is inside, and settings never change.
        #[expect(clippy::indexing_slicing, reason = "checked by the constructor")]
        &self.settings.trunks[self.index]
    }
}
