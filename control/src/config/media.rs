//! The configuration as the media plane takes it.

use relay_user::{
    media::{MediaInterface, RelayConfig},
    offload,
};

use super::settings::{Settings, XdpMode};

/// What the media plane is started with. `forced` is a mode of XDP to take, or none.
#[must_use]
pub fn relay_config(settings: &Settings, forced: Option<XdpMode>) -> RelayConfig {
    let media = &settings.media;
    RelayConfig {
        interfaces: settings
            .interfaces
            .iter()
            .map(|interface| MediaInterface {
                name: interface.name.clone(),
                addresses: interface.addresses.clone(),
            })
            .collect(),
        ports: media.ports.range(),
        workers: media.workers,
        busy_poll: media.busy_poll,
        xdp: match forced.unwrap_or(media.xdp) {
            XdpMode::Native => offload::XdpMode::Native,
            XdpMode::Generic => offload::XdpMode::Generic,
            XdpMode::Off => offload::XdpMode::Off,
        },
        xdp_forced: forced.is_some(),
        flows: media.flows,
        next_hops: NEXT_HOPS,
        srtp_offload: media.srtp_offload,
        srtp_streams: media.srtp_streams,
    }
}

/// Neighbours in use at one time: gateways, and peers on the same network.
const NEXT_HOPS: u32 = 4_096;
