//! The steps of a scenario, as SIPp's XML wants them.

use std::{fmt::Write, path::Path, time::Duration};

use super::scenario::{CALLED, User};

pub(super) const OFFER: &str = "m=audio [rtpstream_audio_port] RTP/AVP 0 101
a=rtpmap:0 PCMU/8000
a=rtpmap:101 telephone-event/8000
a=fmtp:101 0-15
a=ptime:20
";
/// What belongs to the dialog in each of the caller's later requests.
const CALLER_DIALOG: &str =
    "From: \"Caller\" <sip:+15550100@[local_ip]:[local_port]>;tag=[pid]c[call_number]
To: <sip:[service]@[remote_ip]:[remote_port]>[peer_tag_param]
Call-ID: [call_id]
Contact: <sip:caller@[local_ip]:[local_port];transport=[transport]>
Max-Forwards: 70
[routes]
";

/// What SIPp makes an Authorization of.
pub(super) fn credentials((name, password): User) -> String {
    format!("[authentication username={name} password={password}]\n")
}

/// Looks whether a request has the credentials of [`CALLED`].
pub(super) fn proof() -> String {
    let (name, password) = CALLED;
    format!("<verifyauth assign_to=\"proved\" username=\"{name}\" password=\"{password}\"/>\n")
}

/// A scenario that is being written.
pub(super) struct Script {
    text: String,
    play: String,
    talk: Duration,
    labels: u32,
}

impl Script {
    pub(super) fn new(sound: Option<&Path>, talk: Duration) -> Self {
        let play = sound.map_or_else(String::new, |sound| {
            format!(
                "<nop><action><exec rtp_stream=\"{},-1,0\"/></action></nop>\n",
                sound.display()
            )
        });
        Self {
            text: "<?xml version=\"1.0\" encoding=\"us-ascii\"?>\n<scenario name=\"call\">\n"
                .to_owned(),
            play,
            talk,
            labels: 0,
        }
    }

    pub(super) fn finish(mut self) -> String {
        self.text.push_str("</scenario>\n");
        self.text
    }

    fn send(&mut self, retransmit: bool, message: &str) {
        let retransmit = if retransmit { " retrans=\"500\"" } else { "" };
        let _ = write!(
            self.text,
            "<send{retransmit}><![CDATA[\n{message}\n]]></send>\n"
        );
    }

    pub(super) fn receive(&mut self, what: &str) {
        let _ = writeln!(self.text, "<recv {what}/>");
    }

    pub(super) fn invite(&mut self, media: &str) {
        self.invite_with(1, "", media);
    }

    pub(super) fn invite_with(&mut self, sequence: u32, headers: &str, media: &str) {
        let sdp = sdp("1", media, "sendrecv");
        let message = format!(
            "INVITE sip:[service]@[remote_ip]:[remote_port] SIP/2.0
Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch];rport
{}CSeq: {sequence} INVITE
{headers}Allow: INVITE, ACK, CANCEL, BYE, OPTIONS
Content-Type: application/sdp
Content-Length: [len]

{sdp}",
            CALLER_DIALOG
                .replace("[peer_tag_param]", "")
                .replace("[routes]\n", "")
        );
        self.send(true, &message);
    }

    pub(super) fn answered(&mut self) {
        self.answered_with(1);
    }

    pub(super) fn answered_with(&mut self, sequence: u32) {
        self.receive("response=\"100\" optional=\"true\"");
        self.receive("response=\"180\" optional=\"true\"");
        self.receive("response=\"183\" optional=\"true\"");
        self.receive("response=\"200\" rtd=\"true\" rrs=\"true\"");
        self.acknowledge(sequence);
        let play = self.play.clone();
        self.text.push_str(&play);
    }

    fn acknowledge(&mut self, sequence: u32) {
        self.send(
            false,
            &format!(
                "ACK [next_url] SIP/2.0
Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch];rport
{CALLER_DIALOG}CSeq: {sequence} ACK
Content-Length: 0
"
            ),
        );
    }

    pub(super) fn reinvite(&mut self, sequence: u32, direction: &str) {
        let sdp = sdp(&sequence.to_string(), OFFER, direction);
        self.send(
            true,
            &format!(
                "INVITE [next_url] SIP/2.0
Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch];rport
{CALLER_DIALOG}CSeq: {sequence} INVITE
Content-Type: application/sdp
Content-Length: [len]

{sdp}"
            ),
        );
        self.receive("response=\"100\" optional=\"true\"");
        self.receive("response=\"200\"");
        self.acknowledge(sequence);
    }

    pub(super) fn talk(&mut self) {
        let _ = writeln!(
            self.text,
            "<pause milliseconds=\"{}\"/>",
            self.talk.as_millis()
        );
    }

    pub(super) fn hang_up(&mut self) {
        self.hang_up_with(2);
    }

    pub(super) fn hang_up_with(&mut self, sequence: u32) {
        self.send(
            true,
            &format!(
                "BYE [next_url] SIP/2.0
Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch];rport
{CALLER_DIALOG}CSeq: {sequence} BYE
Content-Length: 0
"
            ),
        );
        self.receive("response=\"200\"");
    }

    pub(super) fn hung_up(&mut self) {
        self.receive("request=\"BYE\"");
        self.agree_to_end();
    }

    pub(super) fn agree_to_end(&mut self) {
        self.send(
            false,
            "SIP/2.0 200 OK
[last_Via:]
[last_From:]
[last_To:]
[last_Call-ID:]
[last_CSeq:]
Content-Length: 0
",
        );
    }

    pub(super) fn cancelled(&mut self) {
        self.receive("response=\"100\" optional=\"true\"");
        self.receive("response=\"180\"");
        self.send(
            true,
            &format!(
                "CANCEL sip:[service]@[remote_ip]:[remote_port] SIP/2.0
[last_Via:]
{}CSeq: 1 CANCEL
Content-Length: 0
",
                CALLER_DIALOG
                    .replace("[peer_tag_param]", "")
                    .replace("[routes]\n", "")
            ),
        );
        self.receive("response=\"200\"");
        self.receive("response=\"487\"");
        self.acknowledge_refusal();
    }

    pub(super) fn refused(&mut self, status: u16) {
        self.receive("response=\"100\" optional=\"true\"");
        self.receive("response=\"180\" optional=\"true\"");
        self.receive(&format!("response=\"{status}\""));
        self.acknowledge_refusal();
    }

    pub(super) fn acknowledge_refusal(&mut self) {
        self.send(
            false,
            &format!(
                "ACK sip:[service]@[remote_ip]:[remote_port] SIP/2.0
[last_Via:]
{}CSeq: 1 ACK
Content-Length: 0
",
                CALLER_DIALOG.replace("[routes]\n", "")
            ),
        );
    }

    pub(super) fn ring(&mut self) {
        self.invited();
        self.respond("180 Ringing", "");
    }

    /// Refuses a request until it proves who sent it. `tag`: behind To.
    pub(super) fn challenge(&mut self, tag: &str) {
        self.send(
            false,
            &format!(
                "SIP/2.0 401 Unauthorized
[last_Via:]
[last_From:]
[last_To:]{tag}
[last_Call-ID:]
[last_CSeq:]
WWW-Authenticate: Digest realm=\"sipp\", nonce=\"47364c23432d2e131a5fb210812c\", algorithm=MD5
Content-Length: 0
"
            ),
        );
    }

    /// Receives a request that must have credentials.
    pub(super) fn receive_proof(&mut self, method: &str) {
        let proof = proof();
        let _ = writeln!(
            self.text,
            "<recv request=\"{method}\"><action>\n{proof}</action></recv>"
        );
        self.only_proved();
    }

    /// Fails unless the last request had good credentials.
    pub(super) fn only_proved(&mut self) {
        self.labels += 1;
        let label = self.labels;
        let _ = writeln!(
            self.text,
            "<nop test=\"proved\" next=\"{label}\"/>\n\
             <nop><action><error message=\"wrong credentials\"/></action></nop>\n\
             <label id=\"{label}\"/>"
        );
    }

    /// Takes a REGISTER; 0 seconds: it takes back what was registered.
    pub(super) fn registered(&mut self, seconds: u32) {
        let contact = if seconds == 0 {
            String::new()
        } else {
            format!("[last_Contact:];expires={seconds}\n")
        };
        self.send(
            false,
            &format!(
                "SIP/2.0 200 OK
[last_Via:]
[last_From:]
[last_To:];tag=[pid]r[call_number]
[last_Call-ID:]
[last_CSeq:]
{contact}Content-Length: 0
"
            ),
        );
    }

    /// Receives an INVITE and keeps what later messages of ours need of it.
    fn invited(&mut self) {
        self.invited_with("");
    }

    pub(super) fn invited_with(&mut self, actions: &str) {
        self.text
            .push_str("<recv request=\"INVITE\" rrs=\"true\"><action>\n");
        for (header, variable) in [
            ("From:", "caller"),
            ("To:", "callee"),
            ("Via:", "via"),
            ("CSeq:", "sequence"),
        ] {
            let _ = writeln!(
                self.text,
                "<ereg regexp=\".*\" search_in=\"hdr\" header=\"{header}\" assign_to=\"{variable}\"/>"
            );
        }
        self.text.push_str(actions);
        self.text.push_str("</action></recv>\n");
        self.text
            .push_str("<Reference variables=\"caller,callee,via,sequence\"/>\n");
    }

    pub(super) fn respond(&mut self, status: &str, body: &str) {
        let tail = if body.is_empty() {
            "Content-Length: 0\n".to_owned()
        } else {
            format!("Content-Type: application/sdp\nContent-Length: [len]\n\n{body}")
        };
        self.send(
            !status.starts_with('1'),
            &format!(
                "SIP/2.0 {status}
[last_Via:]
[last_Record-Route:]
[last_From:]
[last_To:];tag=[pid]s[call_number]
[last_Call-ID:]
[last_CSeq:]
Contact: <sip:callee@[local_ip]:[local_port];transport=[transport]>
Allow: INVITE, ACK, CANCEL, BYE, OPTIONS
{tail}"
            ),
        );
    }

    pub(super) fn answer(&mut self) {
        self.answer_with(OFFER);
    }

    pub(super) fn answer_with(&mut self, media: &str) {
        self.respond("200 OK", &sdp("1", media, "sendrecv"));
        self.receive("request=\"ACK\"");
        let play = self.play.clone();
        self.text.push_str(&play);
    }

    /// Answers a re-INVITE.
    pub(super) fn agree(&mut self, direction: &str) {
        self.receive("request=\"INVITE\"");
        let sdp = sdp("2", OFFER, direction);
        self.send(
            true,
            &format!(
                "SIP/2.0 200 OK
[last_Via:]
[last_Record-Route:]
[last_From:]
[last_To:]
[last_Call-ID:]
[last_CSeq:]
Contact: <sip:callee@[local_ip]:[local_port];transport=[transport]>
Content-Type: application/sdp
Content-Length: [len]

{sdp}"
            ),
        );
        self.receive("request=\"ACK\"");
    }

    pub(super) fn hang_up_callee(&mut self) {
        self.send(
            true,
            "BYE [next_url] SIP/2.0
Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch];rport
From:[$callee];tag=[pid]s[call_number]
To:[$caller]
[last_Call-ID:]
CSeq: 1 BYE
Max-Forwards: 70
Content-Length: 0
",
        );
        self.receive("response=\"200\"");
    }

    pub(super) fn refuse(&mut self, status: u16) {
        self.invited();
        self.respond(&format!("{status} No"), "");
        self.receive("request=\"ACK\"");
    }

    pub(super) fn give_way(&mut self) {
        self.receive("request=\"CANCEL\"");
        self.agree_to_end();
        self.send(
            true,
            "SIP/2.0 487 Request Terminated
Via:[$via]
From:[$caller]
To:[$callee];tag=[pid]s[call_number]
[last_Call-ID:]
CSeq:[$sequence]
Content-Length: 0
",
        );
        self.receive("request=\"ACK\"");
    }
}

fn sdp(version: &str, media: &str, direction: &str) -> String {
    format!(
        "v=0
o=peer 1 {version} IN IP[local_ip_type] [local_ip]
s=-
c=IN IP[media_ip_type] [media_ip]
t=0 0
{media}a={direction}
"
    )
}
