//! What SIPp is told to do for these loads.

use super::Media;

/// Octets of silence that a call with media plays at a time: 100 ms of G.711.
pub const SOUND: [u8; 800] = [0xff; 800];

/// How long, in milliseconds, an answer may take, and the end of a call: whoever waits longer has
/// no call.
pub const PATIENCE: u32 = 4_000;

/// The caller: calls, holds for as long as it is told, hangs up.
pub fn caller(media: Media) -> String {
    CALLER
        .replace("PATIENCE", &PATIENCE.to_string())
        .replace("PLAY", play(media))
        .replace("SDP", &sdp(media))
}

/// The callee: rings, answers, waits for the hang-up.
pub fn callee(media: Media) -> String {
    CALLEE
        .replace("PLAY", play(media))
        .replace("SDP", &sdp(media))
}

fn play(media: Media) -> &'static str {
    match media {
        Media::None => "",
        Media::Offloaded => "<nop><action><exec rtp_stream=\"sound.ul,1,0\"/></action></nop>",
    }
}

fn sdp(media: Media) -> String {
    let port = match media {
        Media::None => "[media_port]",
        Media::Offloaded => "[rtpstream_audio_port]",
    };
    format!(
        "v=0
o=peer 1 1 IN IP4 [local_ip]
s=-
c=IN IP4 [media_ip]
t=0 0
m=audio {port} RTP/AVP 0 101
a=rtpmap:0 PCMU/8000
a=rtpmap:101 telephone-event/8000
a=ptime:20"
    )
}

// 180 may be lost, as any provisional response over UDP; the call goes on without it.
const CALLER: &str = r#"<?xml version="1.0" encoding="us-ascii"?>
<scenario name="call">
<send retrans="500"><![CDATA[

INVITE sip:+1555[call_number]@[remote_ip]:[remote_port] SIP/2.0
Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch];rport
From: <sip:+15550100@[local_ip]:[local_port]>;tag=[pid]c[call_number]
To: <sip:+1555[call_number]@[remote_ip]:[remote_port]>
Call-ID: [call_id]
CSeq: 1 INVITE
Contact: <sip:caller@[local_ip]:[local_port]>
Max-Forwards: 70
Content-Type: application/sdp
Content-Length: [len]

SDP
]]></send>
<recv response="100" optional="true"/>
<recv response="180" optional="true"/>
<recv response="200" rrs="true" timeout="PATIENCE"/>
<send><![CDATA[

ACK [next_url] SIP/2.0
Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch];rport
From: <sip:+15550100@[local_ip]:[local_port]>;tag=[pid]c[call_number]
To: <sip:+1555[call_number]@[remote_ip]:[remote_port]>[peer_tag_param]
Call-ID: [call_id]
CSeq: 1 ACK
Contact: <sip:caller@[local_ip]:[local_port]>
Max-Forwards: 70
[routes]
Content-Length: 0

]]></send>
PLAY
<pause/>
<send retrans="500"><![CDATA[

BYE [next_url] SIP/2.0
Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch];rport
From: <sip:+15550100@[local_ip]:[local_port]>;tag=[pid]c[call_number]
To: <sip:+1555[call_number]@[remote_ip]:[remote_port]>[peer_tag_param]
Call-ID: [call_id]
CSeq: 2 BYE
Max-Forwards: 70
[routes]
Content-Length: 0

]]></send>
<recv response="200" timeout="PATIENCE"/>
</scenario>
"#;

const CALLEE: &str = r#"<?xml version="1.0" encoding="us-ascii"?>
<scenario name="answer">
<recv request="INVITE" rrs="true"/>
<send><![CDATA[

SIP/2.0 180 Ringing
[last_Via:]
[last_From:]
[last_To:];tag=[pid]s[call_number]
[last_Call-ID:]
[last_CSeq:]
Contact: <sip:callee@[local_ip]:[local_port]>
Content-Length: 0

]]></send>
<send retrans="500"><![CDATA[

SIP/2.0 200 OK
[last_Via:]
[last_From:]
[last_To:];tag=[pid]s[call_number]
[last_Call-ID:]
[last_CSeq:]
Contact: <sip:callee@[local_ip]:[local_port]>
Content-Type: application/sdp
Content-Length: [len]

SDP
]]></send>
<recv request="ACK"/>
PLAY
<recv request="BYE"/>
<send><![CDATA[

SIP/2.0 200 OK
[last_Via:]
[last_From:]
[last_To:]
[last_Call-ID:]
[last_CSeq:]
Content-Length: 0

]]></send>
</scenario>
"#;
