//! How a trunk's signalling differs from another's: `[trunk.sip]`.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How to speak SIP with the trunk. What is left out is as `profile` has it.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Signalling {
    /// What holds for the keys that are left out: `plain`, or `teams` for Microsoft Teams Direct
    /// Routing.
    pub profile: Profile,
    /// Whether an INVITE without an offer goes to the trunk as it is (`as-sent`) or with an offer
    /// made here (`always`; `teams`).
    pub offer: Option<Offers>,
    /// Whether the trunk may transfer calls with REFER: then it is in our Allow. REFER is never
    /// sent on: the transfer is carried out here. Left out: `true`.
    pub refer: Option<bool>,
    /// Whether an INVITE of the trunk may take over a call with Replaces. Left out: `true`.
    pub replaces: Option<bool>,
    /// What the trunk hears of ringing: `as-sent`, `ringing` (180 for every 183, without its SDP)
    /// or `first-183` (only the first 183).
    pub ringback: Ringback,
    /// Seconds after which a session that nobody refreshed is over (RFC 4028), offered to the
    /// trunk and kept on its leg alone. 0: no session timer unless the trunk asks for one.
    pub session_expires: u32,
    /// The shortest session timer that is taken, in seconds; a shorter one earns a 422.
    pub min_se: Option<u32>,
    /// Whether provisional responses are acknowledged (PRACK, RFC 3262) where the trunk knows
    /// that. Never with `teams`.
    pub reliable_provisional: bool,
    /// Whether UPDATE (RFC 3311) is taken from the trunk, and sent to it to refresh sessions and to
    /// carry offers before a call is answered. Never with `teams`.
    pub update: bool,
    /// Whom From names towards the trunk: `from` (whom the other side's names) or `asserted`
    /// (whom its P-Asserted-Identity names, if any; `teams`).
    pub caller: Option<Caller>,
    /// Whether the trunk is believed when it asserts an identity, and told ours: without that
    /// P-Asserted-Identity does not pass, and a caller who asks for privacy is anonymous. Left
    /// out: `false`; `teams`: `true`.
    pub trusted: Option<bool>,
    /// In which form the trunk is told that a call was forwarded: `diversion` (RFC 5806),
    /// `history-info` (RFC 7044; `teams`) or `off`. Both are understood.
    pub forwarding: Option<Forwarding>,
    /// Further header fields of the other side that pass to the trunk as they are, by name.
    pub headers_allow: Vec<String>,
    /// Header fields that do not pass to the trunk although they would, by name.
    pub headers_strip: Vec<String>,
    /// The Q.850 cause that a 486 of the trunk gets where it says 34. Left out: 34 stays;
    /// `teams`: 17.
    pub busy_cause: Option<u8>,
    /// How long an address of the trunk has to say more than 100 to the INVITE of a call, in
    /// seconds, before the next one has its turn; the last one has `limits.ring_seconds`. 0: until
    /// the INVITE's transaction times out, after 32 s. Left out: 0; `teams`: 10.
    pub answer_seconds: Option<u16>,
    /// The status code that calls to the trunk are refused with at once while none of its addresses
    /// is in service. Left out: 503.
    pub unavailable_code: Option<u16>,
    /// Whether refusals and BYEs to the trunk that bear no Reason get one, a Q.850 cause made of
    /// the status code.
    pub make_reason: bool,
    /// Whether requests of more than 1,300 octets go to a UDP trunk over TCP (RFC 3261 §18.1.1),
    /// and by UDP after all when it takes no TCP. We then listen on TCP beside UDP.
    pub large_by_tcp: bool,
    /// Whether the ELIN of a caller's location, if there is one, stands for the caller on the
    /// other side, so that who is called in an emergency can call back: within an hour a call to
    /// that number goes to the caller.
    pub elin: bool,
    /// The value of X-MS-SBC in requests and responses to the trunk: vendor, model and version.
    /// Left out: none; `teams`: Trunkline's.
    pub x_ms_sbc: Option<String>,
}

/// What holds for the keys of `[trunk.sip]` that are left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    #[default]
    Plain,
    Teams,
}

/// What becomes of an INVITE without an offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Offers {
    AsSent,
    Always,
}

/// What a caller's side hears of ringing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Ringback {
    #[default]
    AsSent,
    Ringing,
    #[serde(rename = "first-183")]
    FirstProgress,
}

/// Whom From names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Caller {
    From,
    Asserted,
}

/// How forwarding is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Forwarding {
    Diversion,
    HistoryInfo,
    Off,
}

/// The shortest session timer that RFC 4028 lets one ask for, in seconds.
pub const SHORTEST_SESSION: u32 = 90;

impl Signalling {
    /// Whether the peer is Teams.
    #[must_use]
    pub fn is_teams(&self) -> bool {
        self.profile == Profile::Teams
    }

    #[must_use]
    pub fn always_offers(&self) -> bool {
        match self.offer {
            Some(offer) => offer == Offers::Always,
            None => self.is_teams(),
        }
    }

    #[must_use]
    pub fn takes_refer(&self) -> bool {
        self.refer.unwrap_or(true)
    }

    #[must_use]
    pub fn takes_replaces(&self) -> bool {
        self.replaces.unwrap_or(true)
    }

    #[must_use]
    pub fn shortest_session(&self) -> u32 {
        self.min_se
            .unwrap_or(SHORTEST_SESSION)
            .max(SHORTEST_SESSION)
    }

    #[must_use]
    pub fn uses_prack(&self) -> bool {
        self.reliable_provisional && !self.is_teams()
    }

    #[must_use]
    pub fn uses_update(&self) -> bool {
        self.update && !self.is_teams()
    }

    #[must_use]
    pub fn names_asserted(&self) -> bool {
        match self.caller {
            Some(caller) => caller == Caller::Asserted,
            None => self.is_teams(),
        }
    }

    #[must_use]
    pub fn is_trusted(&self) -> bool {
        self.trusted.unwrap_or_else(|| self.is_teams())
    }

    #[must_use]
    pub fn forwarding(&self) -> Forwarding {
        self.forwarding.unwrap_or(if self.is_teams() {
            Forwarding::HistoryInfo
        } else {
            Forwarding::Off
        })
    }

    /// How long an address has to say more than 100, unless it is the last one.
    #[must_use]
    pub fn answer_within(&self) -> Option<Duration> {
        let seconds = self
            .answer_seconds
            .unwrap_or(if self.is_teams() { 10 } else { 0 });
        (seconds > 0).then(|| Duration::from_secs(seconds.into()))
    }

    /// The Q.850 cause for a 486 that says 34.
    #[must_use]
    pub fn busy_cause(&self) -> Option<u8> {
        self.busy_cause.or_else(|| self.is_teams().then_some(17))
    }

    #[must_use]
    pub fn unavailable_code(&self) -> u16 {
        self.unavailable_code.unwrap_or(503)
    }

    #[must_use]
    pub fn product(&self) -> Option<&str> {
        self.x_ms_sbc.as_deref().or_else(|| {
            self.is_teams()
                .then_some(concat!("Trunkline/SBC/", env!("CARGO_PKG_VERSION")))
        })
    }
}
