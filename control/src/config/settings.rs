//! The configuration's shape. The documentation of every field becomes docs/configuration.md.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    destination::{Found, Question},
    error::Problem,
    trunk::Trunk,
    values::{Host, Pattern, PortRange},
};
use crate::sip;

/// The whole configuration file, read and found sound by [`super::load`].
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    #[serde(default)]
    pub media: Media,
    #[serde(default)]
    pub admin: Admin,
    #[serde(default)]
    pub limits: Limits,
    #[serde(default)]
    pub log: Log,
    /// The network interfaces that carry media. A change needs a restart.
    #[serde(default, rename = "interface")]
    pub interfaces: Vec<Interface>,
    /// The peers: carriers, contact centres, Microsoft Teams.
    #[serde(default, rename = "trunk")]
    pub trunks: Vec<Trunk>,
    /// Customers: what they may have over all their trunks together.
    #[serde(default, rename = "tenant")]
    pub tenants: Vec<Tenant>,
    /// Where a call goes. The first route that matches takes it; a call that none matches is
    /// answered with 404.
    #[serde(default, rename = "route")]
    pub routes: Vec<Route>,
    /// What is allowed but probably not meant.
    #[serde(skip)]
    pub warnings: Vec<Problem>,
}

impl Settings {
    #[must_use]
    pub fn trunk(&self, name: &str) -> Option<&Trunk> {
        self.trunks.iter().find(|trunk| trunk.name == name)
    }

    #[must_use]
    pub fn interface(&self, name: &str) -> Option<&Interface> {
        self.interfaces
            .iter()
            .find(|interface| interface.name == name)
    }

    /// The same settings with the trunks' names looked up anew.
    #[must_use]
    pub fn with_lookups(&self, lookup: impl Fn(&Question) -> Vec<Found>) -> Self {
        let mut settings = self.clone();
        for trunk in &mut settings.trunks {
            trunk.destinations = trunk.resolve(&lookup);
        }
        settings
    }

    /// The route that takes a call from trunk `from` to `number`, at `host` if the Request-URI has
    /// one: the first that matches.
    #[must_use]
    pub fn route(&self, from: &str, number: &str, host: Option<&str>) -> Option<&Route> {
        let mut routes = self.routes.iter();
        routes.find(|route| route.matches(from, number, host))
    }
}

/// The media plane. A change needs a restart.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Media {
    /// The UDP ports for RTP and RTCP, in pairs: an even first, an odd last port. A call takes two
    /// pairs. Other programs receive nothing there, unless they have connected their socket.
    pub ports: PortRange,
    /// io_uring workers for what the kernel does not carry. 0: one for each core.
    pub workers: u16,
    /// Whether workers take packets from the device's queue themselves, which spares a busy worker
    /// most interrupts. Worth it only where the device defers them and XDP does not run: see
    /// `docs/slow-path.md`.
    pub busy_poll: bool,
    /// How the XDP program is attached: `native` (by the driver, else as `generic`), `generic` (by
    /// the stack, slower) or `off` (everything through userspace).
    pub xdp: XdpMode,
    /// Capacity of the kernel's flow table. A call takes two entries.
    pub flows: u32,
    /// Whether the XDP program protects and unprotects SRTP of AES_CM_128_HMAC_SHA1_80 and
    /// AES_CM_128_HMAC_SHA1_32; false leaves all SRTP to userspace. The program's AES is
    /// by tables: set it to false where others whom you do not trust run on the same processor.
    pub srtp_offload: bool,
    /// Capacity of the kernel's table of SRTP keys. A leg with SRTP takes two rows.
    pub srtp_streams: u32,
}

impl Default for Media {
    fn default() -> Self {
        Self {
            ports: PortRange::new(20000, 29999).expect("a range of pairs"),
            workers: 0,
            busy_poll: false,
            xdp: XdpMode::Native,
            flows: 20_000,
            srtp_offload: true,
            srtp_streams: 20_000,
        }
    }
}

/// How the XDP program is attached.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema, clap::ValueEnum,
)]
#[serde(rename_all = "lowercase")]
pub enum XdpMode {
    #[default]
    Native,
    Generic,
    Off,
}

/// What operators look at. A change needs a restart.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Admin {
    /// Address and port of `/metrics`, `/healthz` and `/readyz` over HTTP. Left out: none.
    #[schemars(with = "Option<String>")]
    pub metrics: Option<SocketAddr>,
    /// The Unix socket of `trunkline calls`, `call`, `flows`, `trunks` and `stats`. Only its owner
    /// may use it.
    pub socket: PathBuf,
}

/// Where the admin socket is unless the configuration or the command line says otherwise.
pub const ADMIN_SOCKET: &str = "/run/trunkline/admin.sock";

impl Default for Admin {
    fn default() -> Self {
        Self {
            metrics: None,
            socket: PathBuf::from(ADMIN_SOCKET),
        }
    }
}

/// What bounds the daemon.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// How long SIGTERM waits for calls to end, in seconds. What is left then is hung up.
    pub drain_seconds: u64,
    /// Calls at one time. One more is answered with 503. A leg whose place another peer has taken is
    /// none while it is hung up.
    pub calls: u32,
    /// The numbers to which calls are taken whatever limit of calls is reached, and tried although
    /// no address is in service, as regular expressions, such as `"^(112|911)$"`.
    pub emergency: Vec<Pattern>,
    /// How long a call may ring before it is given up, in seconds.
    pub ring_seconds: u64,
    /// Octets of one SIP message. A longer one is discarded (UDP) or closes its connection (TCP
    /// and TLS).
    pub message_octets: usize,
    /// TCP and TLS connections at one time, those that peers opened and our own together. A host
    /// that is none of a trunk's `addresses` may have half of them, and such hosts together all but
    /// the last tenth. A change needs a restart.
    pub connections: usize,
    /// TLS handshakes and other connections that have not yet sent a message, at one time, half of
    /// them from one host at most. One more takes the place of the one that has waited longest
    /// among those from where most come. A change needs a restart.
    pub handshakes: usize,
    /// Octets that may wait for one slow reader before its connection is closed.
    pub write_octets: usize,
    /// After how long without a message a connection is closed, in seconds.
    pub idle_seconds: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            drain_seconds: 60,
            calls: 10_000,
            emergency: Vec::new(),
            ring_seconds: 180,
            message_octets: 65_535,
            connections: 1_000,
            handshakes: 100,
            write_octets: 1 << 20,
            idle_seconds: 3_600,
        }
    }
}

impl Limits {
    /// What the parser and the framer of SIP hold a message to.
    #[must_use]
    pub fn message_limits(&self) -> sip::Limits {
        sip::Limits {
            message: self.message_octets,
            body: self.message_octets,
            ..sip::Limits::default()
        }
    }
}

/// Logs go to the standard error.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// `error`, `warn`, `info`, `debug` or `trace`, or a filter such as
    /// `"info,control::transport=debug"`. The variable `RUST_LOG` has precedence.
    pub level: String,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            level: "info".to_owned(),
        }
    }
}

/// A network interface that carries media. A change needs a restart.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Interface {
    /// The kernel's name for it, such as `eth0`.
    pub name: String,
    /// Our addresses on it that media goes to. The first of a call's address family is used.
    #[schemars(with = "Vec<String>")]
    pub addresses: Vec<IpAddr>,
}

/// A customer, whose trunks have its limits together.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tenant {
    /// Its name in the `tenant` of its trunks.
    pub name: String,
    #[serde(default)]
    pub limits: CallLimits,
}

/// How many calls there may be, whoever calls. Those to the numbers of `limits.emergency` are
/// counted and never refused. A peer that a REFER asks for, or that comes with Replaces, counts in
/// place of the one whose leg it is to take over, from then on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CallLimits {
    /// Calls at one time. A call from one of the trunks to itself or to another one counts twice.
    /// Left out: any number.
    pub calls: Option<u32>,
    /// Calls that begin in a second: a burst of as many, and then as they are worth their time.
    /// Left out: any number.
    pub calls_per_second: Option<u32>,
    /// The status code that one more is refused with. 480, 486 and 503 bear Retry-After. Left out:
    /// 503.
    pub code: Option<u16>,
}

/// A number pattern and the trunk that takes its calls.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// The trunks whose calls it is for. Left out: all.
    #[serde(default)]
    pub from: Vec<String>,
    /// A regular expression on the user part of the Request-URI, such as `"^\\+1555"`. Left out:
    /// every number.
    #[serde(default)]
    pub number: Option<Pattern>,
    /// The host of the Request-URI, where a trunk calls us by several names or addresses, such as
    /// `"sales.example.com"`. Left out: every host. Customers that each have a trunk with its
    /// `domain`, as with Teams, are told apart by `from` alone.
    #[serde(default)]
    pub host: Option<Host>,
    /// The trunk that takes the call.
    pub trunk: String,
    /// The trunks that take it, in order, while no address of `trunk` is in service, or when the
    /// last of those that are tried breaks off, says nothing but 100 in `sip.answer_seconds` or
    /// refuses with 408, 503 or 504 before it rings. So it is with the call that a REFER asks for,
    /// but not with Teams', which goes back to Teams alone. Left out: the call is refused, with the
    /// `sip.unavailable_code` of `trunk` where nobody could be tried.
    #[serde(default)]
    pub fallback: Vec<String>,
}

impl Route {
    /// The trunks that may take a call, in order.
    pub fn trunks(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.trunk)
            .chain(&self.fallback)
            .map(String::as_str)
    }

    /// Whether it takes a call from trunk `from` to `number`, at `host` if the Request-URI has one.
    #[must_use]
    pub fn matches(&self, from: &str, number: &str, host: Option<&str>) -> bool {
        (self.from.is_empty() || self.from.iter().any(|trunk| trunk == from))
            && self
                .number
                .as_ref()
                .is_none_or(|pattern| pattern.is_match(number))
            && self
                .host
                .as_ref()
                .is_none_or(|wanted| host.is_some_and(|host| wanted.is(host)))
    }
}
