//! What is measured. Every label takes its values from a closed list or from the configuration.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use relay_user::media::{MediaSnapshot, SrtpOffload, StreamStatistics};

use super::exposition::{Labels, Metric, Samples};
use crate::{
    admin::{codec_name, packets, path},
    call::{CallSnapshot, CallState, CoreStatistics, PeerSnapshot, PeerState, TrunkSnapshot},
    config::Settings,
    daemon::Phase,
    quality::estimate,
    transport::Discards,
};

/// Everything that a scrape shows, at one moment.
pub(super) struct Figures<'f> {
    pub(super) phase: Phase,
    pub(super) settings: &'f Settings,
    pub(super) core: &'f CoreStatistics,
    pub(super) calls: &'f [CallSnapshot],
    pub(super) trunks: &'f [TrunkSnapshot],
    pub(super) media: &'f MediaSnapshot,
    pub(super) discards: &'f Discards,
    pub(super) connections: usize,
}

fn counter(name: &'static str, help: &'static str, samples: Vec<(Labels, u64)>) -> Metric {
    Metric {
        name,
        help,
        samples: Samples::Counter(samples),
    }
}

fn gauge(name: &'static str, help: &'static str, samples: Vec<(Labels, f64)>) -> Metric {
    Metric {
        name,
        help,
        samples: Samples::Gauge(samples),
    }
}

fn one(value: impl Into<f64>) -> Vec<(Labels, f64)> {
    vec![(Labels::new(), value.into())]
}

fn count(value: u64) -> f64 {
    value as f64
}

impl Figures<'_> {
    pub(super) fn metrics(&self) -> Vec<Metric> {
        let mut metrics = vec![gauge(
            "ready",
            "1 while new calls are taken",
            one(u8::from(self.phase == Phase::Ready)),
        )];
        self.calls(&mut metrics);
        self.signalling(&mut metrics);
        self.peers(&mut metrics);
        self.reception(&mut metrics);
        self.media(&mut metrics);
        self.offload(&mut metrics);
        metrics
    }

    fn calls(&self, metrics: &mut Vec<Metric>) {
        let core = self.core;
        // Those with calls that the configuration no longer has, too.
        let trunks: BTreeSet<Arc<str>> = core
            .calls
            .keys()
            .map(|(trunk, _)| Arc::clone(trunk))
            .chain(
                self.settings
                    .trunks
                    .iter()
                    .map(|trunk| Arc::from(trunk.name.as_str())),
            )
            .collect();
        let calls = trunks.iter().flat_map(|trunk| {
            CallState::ALL.iter().map(|state| {
                let key = (Arc::clone(trunk), *state);
                (
                    vec![
                        ("trunk", trunk.to_string()),
                        ("state", state.name().to_owned()),
                    ],
                    count(core.calls.get(&key).copied().unwrap_or_default()),
                )
            })
        });
        metrics.push(gauge(
            "calls",
            "Calls by trunk and state; a call counts on both its trunks",
            calls.collect(),
        ));
        metrics.push(counter(
            "calls_started",
            "Calls that began, by the caller's trunk and the callee's",
            core.started
                .iter()
                .map(|((from, to), value)| {
                    (
                        vec![("from", from.to_string()), ("to", to.to_string())],
                        *value,
                    )
                })
                .collect(),
        ));
        metrics.push(counter(
            "calls_refused",
            "Calls that were refused here, by the trunk that could not have them and reason",
            core.refused
                .iter()
                .map(|((trunk, reason), value)| {
                    (
                        vec![
                            ("trunk", trunk.to_string()),
                            ("reason", (*reason).to_owned()),
                        ],
                        *value,
                    )
                })
                .collect(),
        ));
        metrics.push(counter(
            "calls_ended",
            "Established calls that ended, by reason",
            core.ended
                .iter()
                .map(|(reason, value)| (vec![("reason", (*reason).to_owned())], *value))
                .collect(),
        ));
    }

    fn signalling(&self, metrics: &mut Vec<Metric>) {
        let core = self.core;
        metrics.push(counter(
            "responses",
            "SIP responses by trunk, direction and code",
            core.responses
                .iter()
                .map(|((trunk, direction, code), value)| {
                    (
                        vec![
                            ("trunk", trunk.to_string()),
                            ("direction", direction.name().to_owned()),
                            ("code", code.to_string()),
                        ],
                        *value,
                    )
                })
                .collect(),
        ));
        metrics.push(counter(
            "authentications",
            "Requests of trunks that must authenticate themselves, by trunk and outcome",
            core.authenticated
                .iter()
                .map(|((trunk, outcome), value)| {
                    (
                        vec![
                            ("trunk", trunk.to_string()),
                            ("outcome", outcome.name().to_owned()),
                        ],
                        *value,
                    )
                })
                .collect(),
        ));
        metrics.push(gauge(
            "registration",
            "1 for the state of our registration with each trunk that has one, and the last answer",
            core.registrations
                .iter()
                .map(|one| {
                    let status = one.status.map_or_else(String::new, |code| code.to_string());
                    (
                        vec![
                            ("trunk", one.trunk.to_string()),
                            ("address", one.address.to_string()),
                            ("state", one.state.name().to_owned()),
                            ("code", status),
                        ],
                        1.0,
                    )
                })
                .collect(),
        ));
        let at_edges = self
            .discards
            .iter()
            .map(|(reason, value)| ("edge", reason.name(), value));
        let in_core = core
            .discards
            .iter()
            .map(|(reason, value)| ("core", reason.name(), *value));
        metrics.push(counter(
            "discards",
            "SIP messages and connections that were discarded, by place and reason",
            at_edges
                .chain(in_core)
                .map(|(place, reason, value)| {
                    (
                        vec![("place", place.to_owned()), ("reason", reason.to_owned())],
                        value,
                    )
                })
                .collect(),
        ));
        metrics.push(gauge(
            "transactions",
            "SIP transactions that are not finished",
            one(core.transactions as f64),
        ));
        metrics.push(gauge(
            "connections",
            "TCP and TLS connections",
            one(self.connections as f64),
        ));
    }

    /// The addresses of the trunks.
    fn peers(&self, metrics: &mut Vec<Metric>) {
        let all = || {
            self.trunks.iter().flat_map(|trunk| {
                trunk.peers.iter().map(move |peer| {
                    let labels = vec![
                        ("trunk", trunk.name.to_string()),
                        ("address", peer.address.to_string()),
                    ];
                    (labels, peer)
                })
            })
        };
        let gauges = |value: fn(&PeerSnapshot) -> Option<f64>| -> Vec<(Labels, f64)> {
            all()
                .filter_map(|(labels, peer)| Some((labels, value(peer)?)))
                .collect()
        };
        metrics.push(gauge(
            "peer_up",
            "1 while calls go to an address of a trunk, 0 while it is out of service",
            gauges(|peer| Some(f64::from(u8::from(peer.state != PeerState::Down)))),
        ));
        metrics.push(gauge(
            "peer_round_trip_seconds",
            "From the last OPTIONS to an address of a trunk to its answer",
            gauges(|peer| Some(peer.round_trip?.as_secs_f64())),
        ));
        metrics.push(gauge(
            "peer_calls",
            "Calls that have a leg to or from an address of a trunk",
            gauges(|peer| Some(count(peer.calls))),
        ));
        metrics.push(counter(
            "peer_openings",
            "How often an address of a trunk went out of service",
            all()
                .map(|(labels, peer)| (labels, peer.openings))
                .collect(),
        ));
    }

    /// How the media of the calls that are up is received, by the trunk that it comes from.
    fn reception(&self, metrics: &mut Vec<Metric>) {
        #[derive(Default)]
        struct Reception {
            streams: u32,
            jitter: f64,
            worst: f64,
            packets: u64,
            lost: u64,
            worst_score: Option<f64>,
            alarms: u32,
        }
        let mut trunks: BTreeMap<&str, Reception> = BTreeMap::new();
        for call in self.calls {
            let Some(streams) = &call.streams else {
                continue;
            };
            for (leg, stream) in call.legs.iter().zip(streams) {
                let packets =
                    |stream: &StreamStatistics| stream.packets_xdp + stream.packets_userspace;
                if packets(stream) == 0 && !stream.srtp_alarm {
                    continue;
                }
                let reception = trunks.entry(&leg.trunk).or_default();
                reception.alarms += u32::from(stream.srtp_alarm);
                if packets(stream) == 0 {
                    continue;
                }
                let jitter = stream.jitter_ms / 1000.0;
                reception.streams += 1;
                reception.jitter += jitter;
                reception.worst = reception.worst.max(jitter);
                reception.packets += packets(stream);
                reception.lost += stream.lost;
                let score = codec_name(call).and_then(|codec| {
                    estimate(codec, packets(stream), stream.lost, stream.jitter_ms)
                });
                if let Some(score) = score {
                    let worst = reception.worst_score.get_or_insert(score.mos);
                    *worst = worst.min(score.mos);
                }
            }
        }
        let labels = |trunk: &str| vec![("trunk", trunk.to_owned())];
        // Every trunk has one from the beginning, so that an alert sees it rise.
        let alarms = self.settings.trunks.iter().map(|trunk| {
            let reception = trunks.get(trunk.name.as_str());
            let alarms = reception.map_or(0, |reception| reception.alarms);
            (labels(&trunk.name), f64::from(alarms))
        });
        metrics.push(gauge(
            "srtp_alarms",
            "Streams of which 50 packets or more of SRTP were refused in five seconds, by the trunk they come from: another key, or an attack",
            alarms.collect(),
        ));
        trunks.retain(|_, reception| reception.streams > 0);
        let of = |value: fn(&Reception) -> f64| {
            trunks
                .iter()
                .map(|(trunk, reception)| (labels(trunk), value(reception)))
                .collect()
        };
        metrics.push(gauge(
            "jitter_mean_seconds",
            "Interarrival jitter of the streams that are up, on average, by the trunk they come from",
            of(|reception| reception.jitter / f64::from(reception.streams)),
        ));
        metrics.push(gauge(
            "jitter_worst_seconds",
            "The largest interarrival jitter of the streams that are up, by the trunk they come from",
            of(|reception| reception.worst),
        ));
        metrics.push(gauge(
            "loss_ratio",
            "RTP packets lost before they came here, of those sent, over the streams that are up, by the trunk they come from",
            of(|reception| {
                reception.lost as f64 / (reception.lost + reception.packets) as f64
            }),
        ));
        metrics.push(gauge(
            "mos_worst",
            "The lowest estimated mean opinion score of the streams that are up, by the trunk they come from",
            trunks
                .iter()
                .filter_map(|(trunk, reception)| Some((labels(trunk), reception.worst_score?)))
                .collect(),
        ));
    }

    fn media(&self, metrics: &mut Vec<Metric>) {
        let media = self.media;
        let counts = packets(media);
        let labels = |index: usize| {
            counts.get(index).map_or_else(Labels::new, |count| {
                vec![
                    ("path", count.path.clone()),
                    ("verdict", count.verdict.clone()),
                    ("reason", count.reason.clone()),
                ]
            })
        };
        metrics.push(counter(
            "packets",
            "Media packets by path, verdict and reason; a punt comes again on the path userspace",
            counts
                .iter()
                .enumerate()
                .map(|(index, count)| (labels(index), count.packets))
                .collect(),
        ));
        metrics.push(counter(
            "octets",
            "Octets of media packets by path, verdict and reason",
            counts
                .iter()
                .enumerate()
                .map(|(index, count)| (labels(index), count.octets))
                .collect(),
        ));
        metrics.push(gauge(
            "streams",
            "Streams that are up, by path and reason",
            media
                .streams
                .iter()
                .map(|(which, value)| {
                    let (path, reason) = path(*which);
                    (
                        vec![
                            ("path", path.to_owned()),
                            ("reason", reason.unwrap_or("none").to_owned()),
                        ],
                        count(*value),
                    )
                })
                .collect(),
        ));
        metrics.push(counter(
            "srtp_failures",
            "SRTP and SRTCP packets that were refused, by path and reason",
            media
                .srtp_failures
                .iter()
                .map(|(path, reason, value)| {
                    (
                        vec![
                            ("path", (*path).to_owned()),
                            ("reason", (*reason).to_owned()),
                        ],
                        *value,
                    )
                })
                .collect(),
        ));
        metrics.push(counter(
            "lost_packets",
            "RTP packets that were sent to us and did not come",
            vec![(Labels::new(), media.lost)],
        ));
        let ports = |value: fn(&relay_user::media::PortUse) -> u32| {
            media
                .ports
                .iter()
                .map(|ports| {
                    (
                        vec![("interface", ports.interface.clone())],
                        f64::from(value(ports)),
                    )
                })
                .collect()
        };
        metrics.push(gauge(
            "media_port_pairs_used",
            "Pairs of media ports in use, by interface",
            ports(|ports| ports.used),
        ));
        metrics.push(gauge(
            "media_port_pairs",
            "Pairs of media ports that there are, by interface",
            ports(|ports| ports.total),
        ));
    }

    fn offload(&self, metrics: &mut Vec<Metric>) {
        let media = self.media;
        metrics.push(gauge(
            "interface_xdp",
            "1 for the mode that XDP came to on each interface, and why",
            media
                .interfaces
                .iter()
                .map(|interface| {
                    (
                        vec![
                            ("interface", interface.name.clone()),
                            ("mode", interface.mode.name().to_owned()),
                            ("why", interface.why.clone()),
                        ],
                        1.0,
                    )
                })
                .collect(),
        ));
        metrics.push(gauge(
            "srtp_xdp",
            "1 if the kernel protects and unprotects SRTP, and why or why not",
            vec![(
                vec![("why", media.srtp.why.clone())],
                f64::from(u8::from(media.srtp.offload == SrtpOffload::Loaded)),
            )],
        ));
        for (name, help, value) in [
            (
                "srtp_streams",
                "Keys in the kernel's table of SRTP streams",
                f64::from(media.srtp.streams),
            ),
            (
                "srtp_streams_capacity",
                "Keys that the kernel's table of SRTP streams holds at most",
                f64::from(media.srtp.capacity),
            ),
            (
                "flows",
                "Entries of the kernel's flow table",
                f64::from(media.flows),
            ),
            (
                "flows_capacity",
                "Entries that the kernel's flow table holds at most",
                f64::from(media.flow_capacity),
            ),
            (
                "map_memory_octets",
                "Memory of the kernel's maps",
                count(media.map_memory),
            ),
            ("next_hops", "Next hops", f64::from(media.next_hops)),
            (
                "next_hops_unresolved",
                "Next hops whose neighbour is not known",
                f64::from(media.next_hops_unresolved),
            ),
        ] {
            metrics.push(gauge(name, help, one(value)));
        }
        metrics.push(counter(
            "socket_overflows",
            "Media packets that the kernel dropped because a worker's socket was full",
            vec![(Labels::new(), media.socket_overflows)],
        ));
        metrics.push(counter(
            "events_lost",
            "Events of the kernel and the workers that found no room in their queue",
            vec![(Labels::new(), media.events_lost)],
        ));
    }
}
