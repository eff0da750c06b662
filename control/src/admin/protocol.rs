//! The words of the admin socket, and what `--json` prints. Nothing here holds a key.

use serde::{Deserialize, Serialize};

/// The longest request, in octets.
pub(super) const REQUEST_OCTETS: usize = 4_096;

/// A question, as one line of JSON such as `{"command":"calls"}`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(tag = "command", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// Every call.
    Calls,
    /// One call, by its number or by the Call-ID of one of its legs.
    Call { id: String },
    /// Every flow.
    Flows,
    /// Every trunk, with its addresses.
    Trunks,
    /// All counts.
    Stats,
}

/// The line that answers a question.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    Ok(Response),
    /// Why there is no answer.
    Error(String),
}

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Response {
    Calls(Vec<CallReport>),
    Call(Box<CallReport>),
    Flows(Vec<FlowReport>),
    Trunks(Vec<TrunkReport>),
    Stats(Box<StatisticsReport>),
}

/// One call.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct CallReport {
    pub id: u64,
    /// `calling`, `ringing`, `established` or `ending`.
    pub state: String,
    /// The number that called.
    pub from: Option<String>,
    /// The number that was called.
    pub to: String,
    pub caller: LegReport,
    pub callee: LegReport,
    pub codec: Option<String>,
    pub held: bool,
    /// Seconds since the INVITE.
    pub age: u64,
    /// Seconds since the answer.
    pub answered: Option<u64>,
    /// From the caller to the callee, then back. Empty until media is connected.
    pub streams: Vec<StreamReport>,
}

/// One side of a call.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct LegReport {
    pub trunk: String,
    pub call_id: String,
    /// The peer's signalling address.
    pub remote: String,
    /// Our address and port for its RTP.
    pub media: Option<String>,
}

/// One direction of a call's media.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct StreamReport {
    /// The trunks, as `from -> to`.
    pub direction: String,
    /// `xdp` or `userspace`.
    pub path: String,
    /// Why userspace.
    pub reason: Option<String>,
    /// `waiting`, `flowing` or `held`.
    pub state: String,
    pub packets_xdp: u64,
    pub packets_userspace: u64,
    pub octets: u64,
    pub dropped: u64,
    pub lost: u64,
    pub jitter_ms: f64,
    /// The estimated mean opinion score (ITU-T G.107); `None` before the first packet.
    pub mos: Option<f64>,
    pub srtp_failures: u64,
    /// Whether so many are refused that its sender must have another key.
    pub srtp_alarm: bool,
    /// The source that is pinned.
    pub peer: Option<String>,
}

/// What arrives at one local address and port.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct FlowReport {
    pub call: u64,
    pub local: String,
    pub peer: Option<String>,
    pub destination: Option<String>,
    pub path: String,
    pub reason: Option<String>,
    pub packets_xdp: u64,
    pub packets_userspace: u64,
    pub dropped: u64,
}

/// One trunk.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct TrunkReport {
    pub name: String,
    /// How often each address is asked by OPTIONS, in seconds; `None` when none is.
    pub options_interval: Option<u64>,
    /// The calls that have a leg over it.
    pub calls: u64,
    /// That we are registered with it, where it wants that.
    #[serde(default)]
    pub registration: Option<RegistrationReport>,
    /// In the order of the configuration.
    pub addresses: Vec<AddressReport>,
}

/// A registration of ours.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct RegistrationReport {
    /// Whom it registers.
    pub address: String,
    /// `waiting` (for the first answer), `registered`, `failed` or `leaving`.
    pub state: String,
    /// The status of the last answer; 408 and 503 also for none.
    pub code: Option<u16>,
    /// Seconds until it ends unless it is renewed.
    pub expires: Option<u64>,
    /// Failures since the last success.
    pub failures: u32,
}

/// One address of a trunk.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct AddressReport {
    pub address: String,
    /// The name that its certificate must hold.
    pub name: Option<String>,
    /// Its turn, lower ones first: the priority in the configuration and, behind a dot, that of the
    /// SRV record that has led there.
    pub priority: String,
    /// Its share among those of its priority.
    pub weight: u16,
    /// `up`, `untried` (no OPTIONS was answered yet) or `down`.
    pub state: String,
    /// Why it is down.
    pub why: Option<String>,
    /// Seconds since it went down or came back; `None` when it never did.
    pub since: Option<u64>,
    /// Seconds for which it still asks not to be called (Retry-After).
    pub retry_after: Option<u64>,
    /// What last came of OPTIONS: a status code, `no answer` or `no connection`.
    pub answer: Option<String>,
    /// Seconds since that.
    pub answered: Option<u64>,
    /// Seconds since anything came from it.
    pub heard: Option<u64>,
    /// From the last OPTIONS to its answer.
    pub round_trip_ms: Option<f64>,
    /// The calls that have a leg to or from its host.
    pub calls: u64,
    /// How often it went down.
    pub openings: u64,
}

/// All counts. Those of packets and messages are since the start.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct StatisticsReport {
    /// `starting`, `ready` or `draining`.
    pub phase: String,
    /// Calls that are up, each counted on both its trunks.
    pub calls: Vec<TrunkCount>,
    pub responses: Vec<ResponseCount>,
    /// Messages and connections, by why they were discarded.
    pub discarded: Vec<Count>,
    pub transactions: u64,
    pub connections: u64,
    pub interfaces: Vec<InterfaceReport>,
    /// Media packets by path and reason.
    pub packets: Vec<PacketCount>,
    /// Streams that are up, by path (and reason).
    pub streams: Vec<Count>,
    pub srtp_failures: u64,
    pub srtp_xdp: SrtpReport,
    pub lost: u64,
    pub flows: u64,
    pub flow_capacity: u64,
    pub map_memory: u64,
    pub next_hops: u64,
    pub next_hops_unresolved: u64,
    pub events_lost: u64,
    pub ports: Vec<PortReport>,
}

/// Calls of a trunk in a state.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct TrunkCount {
    pub trunk: String,
    pub state: String,
    pub count: u64,
}

/// Responses of one code.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct ResponseCount {
    pub trunk: String,
    /// `sent` or `received`.
    pub direction: String,
    pub code: u16,
    pub count: u64,
}

/// How often something occurred.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Count {
    pub name: String,
    pub count: u64,
}

/// Media packets of one path with one end.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct PacketCount {
    pub path: String,
    /// `forward`, `punt`, `drop` or `pass`.
    pub verdict: String,
    pub reason: String,
    pub packets: u64,
    pub octets: u64,
}

/// XDP on one interface.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct InterfaceReport {
    pub name: String,
    /// `native`, `generic` or `off`.
    pub xdp: String,
    pub why: String,
}

/// What the kernel does with SRTP.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct SrtpReport {
    pub loaded: bool,
    pub why: String,
    /// Rows of its table of keys, two for each leg with SRTP.
    pub streams: u64,
    pub capacity: u64,
}

/// Port pairs of one interface.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct PortReport {
    pub interface: String,
    pub used: u64,
    pub total: u64,
}
