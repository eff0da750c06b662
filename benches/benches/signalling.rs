//! What is done to each message: reading it, and answering an SDP offer.

use std::{hint::black_box, net::SocketAddr};

use control::{
    sdp::{LegPolicy, Negotiation, Side, SrtpPolicy},
    sip::{Limits, parse},
};
use criterion::{Criterion, criterion_group, criterion_main};
use rand::{SeedableRng as _, rngs::StdRng};
use relay_user::media::MediaPort;

const INVITE: &str = "INVITE sip:+15551234@sbc.example.com SIP/2.0\r\n\
    Via: SIP/2.0/UDP 198.51.100.2:5060;branch=z9hG4bK776asdhds;rport\r\n\
    Max-Forwards: 70\r\n\
    From: \"Alice\" <sip:+15550100@198.51.100.2>;tag=1928301774\r\n\
    To: <sip:+15551234@sbc.example.com>\r\n\
    Call-ID: a84b4c76e66710@198.51.100.2\r\n\
    CSeq: 314159 INVITE\r\n\
    Contact: <sip:+15550100@198.51.100.2:5060>\r\n\
    Allow: INVITE, ACK, CANCEL, BYE, OPTIONS, UPDATE, PRACK, REFER\r\n\
    Supported: timer, 100rel, replaces\r\n\
    Session-Expires: 1800\r\n\
    User-Agent: A telephone/1.0\r\n\
    Content-Type: application/sdp\r\n";

const OFFER: &str = "v=0\r\n\
    o=- 1 1 IN IP4 198.51.100.2\r\n\
    s=-\r\n\
    c=IN IP4 198.51.100.2\r\n\
    t=0 0\r\n\
    m=audio 4000 RTP/AVP 8 0 101\r\n\
    a=rtpmap:8 PCMA/8000\r\n\
    a=rtpmap:0 PCMU/8000\r\n\
    a=rtpmap:101 telephone-event/8000\r\n\
    a=fmtp:101 0-16\r\n\
    a=ptime:20\r\n\
    a=sendrecv\r\n";

const ANSWER: &str = "v=0\r\n\
    o=- 2 1 IN IP4 203.0.113.2\r\n\
    s=-\r\n\
    c=IN IP4 203.0.113.2\r\n\
    t=0 0\r\n\
    m=audio 5000 RTP/AVP 8 101\r\n\
    a=rtpmap:8 PCMA/8000\r\n\
    a=rtpmap:101 telephone-event/8000\r\n\
    a=fmtp:101 0-16\r\n\
    a=ptime:20\r\n\
    a=sendrecv\r\n";

fn policy(local: SocketAddr) -> LegPolicy {
    LegPolicy {
        srtp: SrtpPolicy::Off,
        ..LegPolicy::new(MediaPort { rtp: local })
    }
}

fn signalling(criterion: &mut Criterion) {
    let invite = format!("{INVITE}Content-Length: {}\r\n\r\n{OFFER}", OFFER.len());
    let limits = Limits::default();
    criterion.bench_function("SIP parse an INVITE", |bencher| {
        bencher.iter(|| parse(black_box(invite.as_bytes()), &limits).expect("an INVITE"));
    });

    let mut random = StdRng::seed_from_u64(1);
    let locals = [([198, 51, 100, 1], 20_000), ([203, 0, 113, 1], 20_000)].map(SocketAddr::from);
    criterion.bench_function("SDP offer and answer", |bencher| {
        bencher.iter(|| {
            let mut negotiation = Negotiation::new(locals.map(policy), &mut random);
            let offer = negotiation.offer(Side::A, OFFER.as_bytes(), &mut random);
            let answer = negotiation.answer(Side::B, ANSWER.as_bytes());
            negotiation.commit().expect("agreed");
            (offer.expect("an offer"), answer.expect("an answer"))
        });
    });
}

criterion_group!(benches, signalling);
criterion_main!(benches);
