//! What SIPp is told to do, as its XML wants it.

use std::{fmt::Write, path::Path, time::Duration};

/// How a SIPp behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scenario {
    /// Calls, talks, hangs up.
    Call,
    /// Calls, talks until the other side hangs up.
    CallAndListen,
    /// Calls, talks, holds (`sendonly`), talks again, hangs up.
    CallAndHold,
    /// Calls and gives up while it rings.
    CallAndCancel,
    /// Calls with codecs that nobody has.
    CallWithStrangeCodec,
    /// Calls and is refused with this status.
    CallRefused(u16),
    /// Calls, is challenged, calls again as [`CALLER`], talks, hangs up.
    CallAsUser,
    /// Is called: rings, answers, talks, waits for the hang-up.
    Answer,
    /// Is called: challenges, and answers those who prove to be [`CALLED`]; the same with the
    /// hang-up.
    AnswerUser,
    /// Is a registrar: challenges, and registers [`CALLED`] for two seconds, then for ten minutes, until
    /// that is taken back.
    Register,
    /// Is called: answers with a key of SRTP ([`SECURED_KEY`]) for somebody else's port
    /// ([`SECURED_PORT`]), waits for the hang-up.
    AnswerSecured,
    /// Is called: rings, answers, talks, hangs up.
    AnswerAndHangUp,
    /// Is called: answers, agrees to being held and to being resumed, waits for the hang-up.
    AnswerAndBeHeld,
    /// Is called: refuses with this status.
    Refuse(u16),
    /// Is called: rings until cancelled.
    Ring,
}

impl Scenario {
    /// The scenario file.
    #[must_use]
    pub fn xml(self, sound: Option<&Path>, talk: Duration) -> String {
        let mut xml = Xml::new(sound, talk);
        match self {
            Self::Call => {
                xml.invite(OFFER);
                xml.answered();
                xml.talk();
                xml.hang_up();
            }
            Self::CallAsUser => {
                xml.invite(OFFER);
                xml.receive("response=\"100\" optional=\"true\"");
                xml.receive("response=\"401\" auth=\"true\"");
                xml.acknowledge_refusal();
                xml.invite_with(2, &credentials(CALLER), OFFER);
                xml.answered_with(2);
                xml.talk();
                xml.hang_up_with(3);
            }
            Self::CallAndListen => {
                xml.invite(OFFER);
                xml.answered();
                xml.hung_up();
            }
            Self::CallAndHold => {
                xml.invite(OFFER);
                xml.answered();
                xml.talk();
                xml.reinvite(2, "sendonly");
                xml.talk();
                xml.reinvite(3, "sendrecv");
                xml.talk();
                xml.hang_up_with(4);
            }
            Self::CallAndCancel => {
                xml.invite(OFFER);
                xml.cancelled();
            }
            Self::CallWithStrangeCodec => {
                xml.invite(STRANGE_OFFER);
                xml.refused(488);
            }
            Self::CallRefused(status) => {
                xml.invite(OFFER);
                xml.refused(status);
            }
            Self::Answer => {
                xml.ring();
                xml.answer();
                xml.hung_up();
            }
            Self::AnswerUser => {
                xml.receive("request=\"INVITE\"");
                xml.challenge(";tag=[pid]c[call_number]");
                xml.receive("request=\"ACK\"");
                xml.invited_with(&proof());
                xml.only_proved();
                xml.respond("180 Ringing", "");
                xml.answer();
                xml.receive("request=\"BYE\"");
                xml.challenge("");
                xml.receive_proof("BYE");
                xml.agree_to_end();
            }
            Self::Register => {
                xml.receive("request=\"REGISTER\"");
                xml.challenge(";tag=[pid]r[call_number]");
                for lasts in [2, 600, 0] {
                    xml.receive_proof("REGISTER");
                    xml.registered(lasts);
                }
            }
            Self::AnswerSecured => {
                xml.ring();
                xml.answer_with(&secured_answer());
                xml.hung_up();
            }
            Self::AnswerAndHangUp => {
                xml.ring();
                xml.answer();
                xml.talk();
                xml.hang_up_callee();
            }
            Self::AnswerAndBeHeld => {
                xml.ring();
                xml.answer();
                xml.agree("recvonly");
                xml.agree("sendrecv");
                xml.hung_up();
            }
            Self::Refuse(status) => xml.refuse(status),
            Self::Ring => {
                xml.ring();
                xml.give_way();
            }
        }
        xml.finish()
    }
}

const OFFER: &str = "m=audio [rtpstream_audio_port] RTP/AVP 0 101
a=rtpmap:0 PCMU/8000
a=rtpmap:101 telephone-event/8000
a=fmtp:101 0-15
a=ptime:20
";
/// The key, in base64, of [`Scenario::AnswerSecured`]: nobody else is to hear or play there.
pub const SECURED_KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNk";
/// The port of [`Scenario::AnswerSecured`].
pub const SECURED_PORT: u16 = 46_000;

/// A name and a password.
pub type User = (&'static str, &'static str);
/// Who calls by [`Scenario::CallAsUser`].
pub const CALLER: User = ("alice", "wonderland");
/// Who must call [`Scenario::AnswerUser`] and register with [`Scenario::Register`].
pub const CALLED: User = ("trunk-7", "sesame");

/// What SIPp makes an Authorization of.
fn credentials((name, password): User) -> String {
    format!("[authentication username={name} password={password}]\n")
}

/// Looks whether a request has the credentials of [`CALLED`].
fn proof() -> String {
    let (name, password) = CALLED;
    format!("<verifyauth assign_to=\"proved\" username=\"{name}\" password=\"{password}\"/>\n")
}

fn secured_answer() -> String {
    format!(
        "m=audio {SECURED_PORT} RTP/SAVP 0
a=rtpmap:0 PCMU/8000
a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:{SECURED_KEY}
a=ptime:20
"
    )
}

const STRANGE_OFFER: &str = "m=audio [rtpstream_audio_port] RTP/AVP 120
a=rtpmap:120 X-NOBODY/8000
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

struct Xml {
    text: String,
    play: String,
    talk: Duration,
    labels: u32,
}

impl Xml {
    fn new(sound: Option<&Path>, talk: Duration) -> Self {
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

    fn finish(mut self) -> String {
        self.text.push_str("</scenario>\n");
        self.text
    }

    fn send(&mut self, retransmit: bool, message: &str) {
        self.send_with(retransmit, "", message);
    }

    fn send_with(&mut self, retransmit: bool, attributes: &str, message: &str) {
        let retransmit = if retransmit { " retrans=\"500\"" } else { "" };
        let _ = write!(
            self.text,
            "<send{retransmit}{attributes}><![CDATA[\n{message}\n]]></send>\n"
        );
    }

    fn receive(&mut self, what: &str) {
        let _ = writeln!(self.text, "<recv {what}/>");
    }

    fn invite(&mut self, media: &str) {
        self.invite_with(1, "", media);
    }

    fn invite_with(&mut self, sequence: u32, headers: &str, media: &str) {
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

    fn answered(&mut self) {
        self.answered_with(1);
    }

    fn answered_with(&mut self, sequence: u32) {
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

    fn reinvite(&mut self, sequence: u32, direction: &str) {
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

    fn talk(&mut self) {
        let _ = writeln!(
            self.text,
            "<pause milliseconds=\"{}\"/>",
            self.talk.as_millis()
        );
    }

    fn hang_up(&mut self) {
        self.hang_up_with(2);
    }

    fn hang_up_with(&mut self, sequence: u32) {
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

    fn hung_up(&mut self) {
        self.receive("request=\"BYE\"");
        self.agree_to_end();
    }

    fn agree_to_end(&mut self) {
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

    fn cancelled(&mut self) {
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

    fn refused(&mut self, status: u16) {
        self.receive("response=\"100\" optional=\"true\"");
        self.receive("response=\"180\" optional=\"true\"");
        self.receive(&format!("response=\"{status}\""));
        self.acknowledge_refusal();
    }

    fn acknowledge_refusal(&mut self) {
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

    fn ring(&mut self) {
        self.invited();
        self.respond("180 Ringing", "");
    }

    /// Refuses a request until it proves who sent it. `tag`: behind To.
    fn challenge(&mut self, tag: &str) {
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
    fn receive_proof(&mut self, method: &str) {
        let proof = proof();
        let _ = writeln!(
            self.text,
            "<recv request=\"{method}\"><action>\n{proof}</action></recv>"
        );
        self.only_proved();
    }

    /// Fails unless the last request had good credentials.
    fn only_proved(&mut self) {
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
    fn registered(&mut self, seconds: u32) {
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

    fn invited_with(&mut self, actions: &str) {
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

    fn respond(&mut self, status: &str, body: &str) {
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

    fn answer(&mut self) {
        self.answer_with(OFFER);
    }

    fn answer_with(&mut self, media: &str) {
        self.respond("200 OK", &sdp("1", media, "sendrecv"));
        self.receive("request=\"ACK\"");
        let play = self.play.clone();
        self.text.push_str(&play);
    }

    /// Answers a re-INVITE.
    fn agree(&mut self, direction: &str) {
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

    fn hang_up_callee(&mut self) {
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

    fn refuse(&mut self, status: u16) {
        self.invited();
        self.respond(&format!("{status} No"), "");
        self.receive("request=\"ACK\"");
    }

    fn give_way(&mut self) {
        self.receive("request=\"CANCEL\"");
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
