//! Steering: a datagram for a media port goes to its worker's socket, although no socket is bound
//! to that port.

use aya_ebpf::{bindings::sk_action, macros::sk_lookup, programs::SkLookupContext};
use relay_abi::headers;

use crate::maps::{SETTINGS, SOCKETS};

/// Linux's number of the address family of IPv6.
const AF_INET6: u32 = 10;

#[sk_lookup]
pub fn steer(context: SkLookupContext) -> u32 {
    // SAFETY: the kernel gives a valid context for the time of the call.
    let lookup = unsafe { &*context.lookup };
    if lookup.protocol == u32::from(headers::UDP)
        && let Some(settings) = SETTINGS.get(0)
        && let Some(slot) =
            settings.socket_slot(lookup.local_port as u16, lookup.family == AF_INET6)
    {
        // An empty slot leaves the datagram to the ordinary lookup, which finds nobody.
        let _ = SOCKETS.redirect_sk_lookup(&context, slot, 0);
    }
    sk_action::SK_PASS
}
