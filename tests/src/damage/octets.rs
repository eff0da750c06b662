//! Octets that no protocol knows, and whole messages to cut.

use rand::{Rng, RngCore, rngs::StdRng};

/// Random octets, so many as `length` allows.
pub(super) fn random(random: &mut StdRng, length: std::ops::Range<usize>) -> Vec<u8> {
    let mut octets = vec![0; random.random_range(length)];
    random.fill_bytes(&mut octets);
    octets
}

/// Random octets that begin neither a keep-alive nor a response.
pub(super) fn no_sip(source: &mut StdRng, length: std::ops::Range<usize>) -> Vec<u8> {
    let mut octets = random(source, length);
    if let Some(first) = octets.first_mut() {
        *first |= 0x80;
    }
    octets
}

/// An INVITE of which every part but the whole is damaged: its Content-Length comes first.
pub(super) fn invite(random: &mut StdRng, transport: &str) -> Vec<u8> {
    let body = "v=0\r\no=- 1 1 IN IP4 198.51.100.2\r\ns=-\r\nc=IN IP4 198.51.100.2\r\nt=0 0\r\n\
                m=audio 30000 RTP/AVP 0\r\n";
    let number: u64 = random.random();
    format!(
        "INVITE sip:+15551000@198.51.100.1 SIP/2.0\r\nContent-Length: {}\r\n\
         Via: SIP/2.0/{transport} 198.51.100.2;rport;branch=z9hG4bK{number}\r\n\
         From: <sip:a@198.51.100.2>;tag={number}\r\nTo: <sip:+15551000@198.51.100.1>\r\n\
         Call-ID: {number}\r\nCSeq: 1 INVITE\r\nMax-Forwards: 70\r\n\
         Contact: <sip:a@198.51.100.2>\r\nContent-Type: application/sdp\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// An INVITE that ends too early.
pub(super) fn cut_invite(random: &mut StdRng, transport: &str) -> Vec<u8> {
    let mut invite = invite(random, transport);
    invite.truncate(random.random_range(1..invite.len()));
    invite
}

/// A response to nothing that was asked.
pub(super) fn stray_response(random: &mut StdRng) -> Vec<u8> {
    let number: u64 = random.random();
    format!(
        "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP 198.51.100.1:5060;branch=z9hG4bK{number}\r\n\
         From: <sip:a@198.51.100.1>;tag=1\r\nTo: <sip:b@198.51.100.2>;tag=2\r\n\
         Call-ID: {number}\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n"
    )
    .into_bytes()
}

/// An RTP packet of a source that nobody knows.
pub(super) fn rtp(random: &mut StdRng, payload_type: u8) -> Vec<u8> {
    let mut packet = vec![0; 172];
    random.fill_bytes(&mut packet);
    packet[0] = 0x80;
    packet[1] = payload_type;
    packet
}

/// What looks like a datagram of the media's, but is no RTP that was negotiated: a peer's own
/// address may say anything that RTP allows, and is believed.
pub(super) fn no_rtp(source: &mut StdRng) -> Vec<u8> {
    let mut octets = random(source, 0..1_200);
    match source.random_range(0..4) {
        // Cut within its header.
        0 => {
            octets = rtp(source, 0);
            octets.truncate(source.random_range(0..12));
        }
        // More contributing sources than there are octets; an extension without end.
        1 => {
            octets = rtp(source, 0);
            octets.truncate(60);
            octets[0] = 0x8f;
        }
        2 => {
            octets = rtp(source, 0);
            octets[0] = 0x90;
            octets[14] = 0xff;
        }
        // Whatever comes; a version of its own.
        _ => {
            if let Some(first) = octets.first_mut()
                && (128..192).contains(first)
            {
                *first |= 0x40;
            }
        }
    }
    octets
}
