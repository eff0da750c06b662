mod descriptions;
mod early;
mod exchanges;
mod fixtures;
mod hold;
mod ice;
mod keys;
mod properties;
mod reading;
mod renewal;

use std::net::SocketAddr;

use rand::{SeedableRng, rngs::StdRng};
use relay_user::media::MediaPort;

use super::{LegPolicy, Negotiation, SrtpPolicy};

pub(super) const LOCAL_A: &str = "192.0.2.1:20000";
pub(super) const LOCAL_B: &str = "203.0.113.1:21000";

pub(super) fn random() -> StdRng {
    StdRng::seed_from_u64(1)
}

pub(super) fn policy(local: &str, srtp: SrtpPolicy) -> LegPolicy {
    let rtp: SocketAddr = local.parse().unwrap();
    LegPolicy {
        srtp,
        ..LegPolicy::new(MediaPort { rtp })
    }
}

pub(super) fn negotiation(a: SrtpPolicy, b: SrtpPolicy) -> Negotiation {
    Negotiation::new([policy(LOCAL_A, a), policy(LOCAL_B, b)], &mut random())
}

pub(super) fn plain() -> Negotiation {
    negotiation(SrtpPolicy::Off, SrtpPolicy::Off)
}

/// A description of one plain audio line from 198.51.100.2:4000.
pub(super) fn plain_sdp(formats: &str, attributes: &[&str]) -> String {
    sdp("RTP/AVP", formats, attributes)
}

pub(super) fn sdp(transport: &str, formats: &str, attributes: &[&str]) -> String {
    let mut body = format!(
        "v=0\r\no=- 1 1 IN IP4 198.51.100.2\r\ns=-\r\nc=IN IP4 198.51.100.2\r\nt=0 0\r\n\
         m=audio 4000 {transport} {formats}\r\n"
    );
    for attribute in attributes {
        body.push_str(&format!("a={attribute}\r\n"));
    }
    body
}
