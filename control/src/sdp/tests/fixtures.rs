//! Descriptions as real peers send them; addresses and keys are invented.

/// A key of 30 octets.
pub(super) const KEY_30: &str = "WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz";
/// Another one.
pub(super) const OTHER_KEY_30: &str = "PS1uQCVeeCFCanVmcjkpPywjNWhcYD0mXXtxaVBR";

/// SIPp's built-in caller.
pub(super) const SIPP: &str = "v=0\r\n\
o=user1 53655765 2353687637 IN IP4 198.51.100.2\r\n\
s=-\r\n\
c=IN IP4 198.51.100.2\r\n\
t=0 0\r\n\
m=audio 6000 RTP/AVP 0\r\n\
a=rtpmap:0 PCMU/8000\r\n";

/// A carrier's gateway.
pub(super) const CARRIER: &str = "v=0\r\n\
o=- 1700000000 1 IN IP4 198.51.100.2\r\n\
s=session\r\n\
c=IN IP4 198.51.100.9\r\n\
b=AS:80\r\n\
t=0 0\r\n\
m=audio 16384 RTP/AVP 8 0 18 101\r\n\
a=rtpmap:18 G729/8000\r\n\
a=fmtp:18 annexb=no\r\n\
a=rtpmap:101 telephone-event/8000\r\n\
a=fmtp:101 0-15\r\n\
a=ptime:20\r\n\
a=maxptime:40\r\n\
a=sendrecv\r\n";

/// Teams, without media bypass.
pub(super) const TEAMS: &str = "v=0\r\n\
o=- 228456 0 IN IP4 127.0.0.1\r\n\
s=session\r\n\
c=IN IP4 52.112.10.20\r\n\
b=CT:10000000\r\n\
t=0 0\r\n\
m=audio 51820 RTP/SAVP 104 9 103 111 18 0 8 97 101 13 118\r\n\
c=IN IP4 52.112.10.20\r\n\
a=rtcp:51821\r\n\
a=label:main-audio\r\n\
a=mid:1\r\n\
a=crypto:0 AES_CM_128_HMAC_SHA1_32 inline:PS1uQCVeeCFCanVmcjkpPywjNWhcYD0mXXtxaVBR|2^31\r\n\
a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz|2^31\r\n\
a=sendrecv\r\n\
a=rtpmap:104 SILK/16000\r\n\
a=rtpmap:9 G722/8000\r\n\
a=rtpmap:103 SILK/8000\r\n\
a=rtpmap:111 SIREN/16000\r\n\
a=fmtp:111 bitrate=16000\r\n\
a=rtpmap:18 G729/8000\r\n\
a=fmtp:18 annexb=no\r\n\
a=rtpmap:0 PCMU/8000\r\n\
a=rtpmap:8 PCMA/8000\r\n\
a=rtpmap:97 RED/8000\r\n\
a=rtpmap:101 telephone-event/8000\r\n\
a=fmtp:101 0-16\r\n\
a=rtpmap:13 CN/8000\r\n\
a=rtpmap:118 CN/16000\r\n\
a=ptime:20\r\n";

/// Teams, with media bypass: ICE and a multiplexed RTCP.
pub(super) const TEAMS_BYPASS: &str = "v=0\r\n\
o=- 1 0 IN IP4 127.0.0.1\r\n\
s=session\r\n\
c=IN IP4 52.112.10.20\r\n\
t=0 0\r\n\
m=audio 50010 RTP/SAVP 104 9 0 8 101\r\n\
a=rtcp:50010\r\n\
a=rtcp-mux\r\n\
a=ice-ufrag:aBcD\r\n\
a=ice-pwd:0123456789abcdefghijklmn\r\n\
a=candidate:1 1 UDP 2130706431 10.1.2.3 50010 typ host\r\n\
a=candidate:2 1 UDP 1694498815 203.0.113.77 50010 typ srflx raddr 10.1.2.3 rport 50010\r\n\
a=candidate:3 1 UDP 184547839 52.112.10.20 50010 typ relay raddr 52.112.10.20 rport 50010\r\n\
a=ssrc:1234 cname:x\r\n\
a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz|2^31|1:1\r\n\
a=rtpmap:104 SILK/16000\r\n\
a=rtpmap:101 telephone-event/8000\r\n";

/// A contact centre's media server.
pub(super) const GENESYS: &str = "v=0\r\n\
o=Genesys 4711 1 IN IP4 203.0.113.5\r\n\
s=Genesys Media Server\r\n\
c=IN IP4 203.0.113.6\r\n\
t=0 0\r\n\
m=audio 36000 RTP/AVP 0 8 96\r\n\
a=rtpmap:0 PCMU/8000\r\n\
a=rtpmap:8 PCMA/8000\r\n\
a=rtpmap:96 telephone-event/8000\r\n\
a=fmtp:96 0-15\r\n\
a=ptime:20\r\n\
a=rtcp:36001 IN IP4 203.0.113.6\r\n";

/// baresip with SRTP mandatory, over IPv6.
pub(super) const BARESIP: &str = "v=0\r\n\
o=- 3355 9875 IN IP6 2001:db8:1::20\r\n\
s=-\r\n\
c=IN IP6 2001:db8:1::20\r\n\
t=0 0\r\n\
a=tool:baresip 1.0.0\r\n\
m=audio 10034 RTP/SAVP 96 9 0 8 101\r\n\
b=AS:125\r\n\
a=rtpmap:96 opus/48000/2\r\n\
a=fmtp:96 stereo=1;sprop-stereo=1\r\n\
a=rtpmap:9 G722/8000\r\n\
a=rtpmap:0 PCMU/8000\r\n\
a=rtpmap:8 PCMA/8000\r\n\
a=rtpmap:101 telephone-event/8000\r\n\
a=fmtp:101 0-15\r\n\
a=rtcp:10035 IN IP6 2001:db8:1::20\r\n\
a=crypto:1 AES_256_CM_HMAC_SHA1_80 inline:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gISIjJCUmJygpKissLQ==\r\n\
a=crypto:2 AES_CM_128_HMAC_SHA1_80 inline:WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz\r\n\
a=rtcp-mux\r\n\
a=ssrc:2033170428 cname:sip:a@example.com\r\n\
a=ptime:20\r\n\
a=sendrecv\r\n\
a=label:1\r\n";

/// Video before audio, a fax line after it.
pub(super) const VIDEO_AND_FAX: &str = "v=0\r\n\
o=- 10 10 IN IP4 192.0.2.33\r\n\
s=-\r\n\
c=IN IP4 192.0.2.33\r\n\
t=0 0\r\n\
a=group:BUNDLE 0 1\r\n\
m=video 40002 RTP/AVP 99 100\r\n\
a=mid:0\r\n\
a=rtpmap:99 H264/90000\r\n\
a=fmtp:99 profile-level-id=42e01f\r\n\
a=rtpmap:100 VP8/90000\r\n\
m=audio 40000 RTP/AVP 8 101\r\n\
a=mid:1\r\n\
a=rtpmap:101 telephone-event/8000\r\n\
m=image 40004 udptl t38\r\n\
a=T38FaxVersion:0\r\n";

/// A fax gateway that has given the audio up.
pub(super) const FAX_ONLY: &str = "v=0\r\n\
o=- 10 11 IN IP4 192.0.2.33\r\n\
s=-\r\n\
c=IN IP4 192.0.2.33\r\n\
t=0 0\r\n\
m=audio 0 RTP/AVP 8\r\n\
m=image 40004 udptl t38\r\n\
a=T38FaxVersion:0\r\n\
a=T38MaxBitRate:14400\r\n";

/// SRTP and plain as two lines of the same sound.
pub(super) const BEST_EFFORT: &str = "v=0\r\n\
o=- 5 5 IN IP4 192.0.2.40\r\n\
s=-\r\n\
c=IN IP4 192.0.2.40\r\n\
t=0 0\r\n\
m=audio 30000 RTP/SAVP 0 8\r\n\
a=crypto:3 AES_CM_128_HMAC_SHA1_80 inline:WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz|2^20|1:4\r\n\
m=audio 30000 RTP/AVP 0 8\r\n";

pub(super) const ALL: [&str; 9] = [
    SIPP,
    CARRIER,
    TEAMS,
    TEAMS_BYPASS,
    GENESYS,
    BARESIP,
    VIDEO_AND_FAX,
    FAX_ONLY,
    BEST_EFFORT,
];
