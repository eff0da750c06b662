//! What SIPp is told to do, step by step.

use std::{path::Path, time::Duration};

use super::script::{OFFER, Script, credentials, proof};

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
    pub(super) fn xml(self, sound: Option<&Path>, talk: Duration) -> String {
        let mut script = Script::new(sound, talk);
        match self {
            Self::Call => {
                script.invite(OFFER);
                script.answered();
                script.talk();
                script.hang_up();
            }
            Self::CallAsUser => {
                script.invite(OFFER);
                script.receive("response=\"100\" optional=\"true\"");
                script.receive("response=\"401\" auth=\"true\"");
                script.acknowledge_refusal();
                script.invite_with(2, &credentials(CALLER), OFFER);
                script.answered_with(2);
                script.talk();
                script.hang_up_with(3);
            }
            Self::CallAndListen => {
                script.invite(OFFER);
                script.answered();
                script.hung_up();
            }
            Self::CallAndHold => {
                script.invite(OFFER);
                script.answered();
                script.talk();
                script.reinvite(2, "sendonly");
                script.talk();
                script.reinvite(3, "sendrecv");
                script.talk();
                script.hang_up_with(4);
            }
            Self::CallAndCancel => {
                script.invite(OFFER);
                script.cancelled();
            }
            Self::CallWithStrangeCodec => {
                script.invite(STRANGE_OFFER);
                script.refused(488);
            }
            Self::CallRefused(status) => {
                script.invite(OFFER);
                script.refused(status);
            }
            Self::Answer => {
                script.ring();
                script.answer();
                script.hung_up();
            }
            Self::AnswerUser => {
                script.receive("request=\"INVITE\"");
                script.challenge(";tag=[pid]c[call_number]");
                script.receive("request=\"ACK\"");
                script.invited_with(&proof());
                script.only_proved();
                script.respond("180 Ringing", "");
                script.answer();
                script.receive("request=\"BYE\"");
                script.challenge("");
                script.receive_proof("BYE");
                script.agree_to_end();
            }
            Self::Register => {
                script.receive("request=\"REGISTER\"");
                script.challenge(";tag=[pid]r[call_number]");
                for lasts in [2, 600, 0] {
                    script.receive_proof("REGISTER");
                    script.registered(lasts);
                }
            }
            Self::AnswerSecured => {
                script.ring();
                script.answer_with(&secured_answer());
                script.hung_up();
            }
            Self::AnswerAndHangUp => {
                script.ring();
                script.answer();
                script.talk();
                script.hang_up_callee();
            }
            Self::AnswerAndBeHeld => {
                script.ring();
                script.answer();
                script.agree("recvonly");
                script.agree("sendrecv");
                script.hung_up();
            }
            Self::Refuse(status) => script.refuse(status),
            Self::Ring => {
                script.ring();
                script.give_way();
            }
        }
        script.finish()
    }
}

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
