//! Random calls over a network that loses, delays, reorders and doubles: whatever happens, both
//! dialogs end and everything is given back.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use rand::{Rng, SeedableRng, rngs::StdRng};
use relay_user::media::{Family, MediaPlane, MediaPort, MemoryMedia};

use super::{
    agent::{Agent, Seen},
    bench::*,
};
use crate::{
    call::{Core, Output},
    config::Settings,
    sip::{Flow, Target},
};

const RUNS: u64 = 10_000;

struct World {
    core: Core<MemoryMedia>,
    media: MemoryMedia,
    agents: [Agent; 2],
    network: BTreeMap<(Instant, u64), (SocketAddr, SocketAddr, Bytes)>,
    sent: u64,
    random: StdRng,
    now: Instant,
    loss: f64,
}

impl World {
    fn new(settings: &Arc<Settings>, seed: u64) -> Self {
        let media = media_of(settings);
        let mut random = StdRng::seed_from_u64(seed);
        Self {
            core: Core::new(Arc::clone(settings), media.clone(), [seed as u8; 32]),
            media,
            agents: [
                Agent::new(CARRIER, LISTEN_CARRIER, seed),
                Agent::new(CENTRE, LISTEN_CENTRE, !seed),
            ],
            network: BTreeMap::new(),
            sent: 0,
            loss: [0.0, 0.05, 0.2][random.random_range(0..3)],
            random,
            now: Instant::now(),
        }
    }

    fn put(&mut self, target: &Target, bytes: &Bytes) {
        if self.random.random_bool(self.loss) {
            return;
        }
        let copies = if self.random.random_bool(self.loss) {
            2
        } else {
            1
        };
        for _ in 0..copies {
            let most = if self.random.random_bool(0.1) {
                900
            } else {
                60
            };
            let delay = Duration::from_millis(self.random.random_range(1..=most));
            self.sent += 1;
            self.network.insert(
                (self.now + delay, self.sent),
                (target.local, target.remote, bytes.clone()),
            );
        }
    }

    fn collect(&mut self) {
        loop {
            let mut out = Vec::new();
            while let Some(output) = self.core.poll() {
                if let Output::Transmit { target, bytes } = output {
                    out.push((target, bytes));
                }
            }
            for agent in &mut self.agents {
                out.extend(agent.poll(self.now, &mut self.random));
            }
            if out.is_empty() {
                return;
            }
            for (target, bytes) in out {
                self.put(&target, &bytes);
            }
        }
    }

    /// Goes to the next thing that happens. False when nothing ever will.
    fn step(&mut self) -> bool {
        let [one, two] = &mut self.agents;
        let next = [
            self.network.first_key_value().map(|((at, _), _)| *at),
            self.core.next_timeout(),
            one.next_timeout(),
            two.next_timeout(),
        ]
        .into_iter()
        .flatten()
        .min();
        let Some(next) = next else {
            return false;
        };
        self.now = next.max(self.now);
        while let Some(entry) = self.network.first_entry() {
            if entry.key().0 > self.now {
                break;
            }
            let (from, to, bytes) = entry.remove();
            self.deliver(from, to, &bytes);
        }
        self.core.timeout(self.now);
        for agent in &mut self.agents {
            agent.timeout(self.now, &mut self.random);
        }
        self.collect();
        true
    }

    fn deliver(&mut self, from: SocketAddr, to: SocketAddr, bytes: &Bytes) {
        if to == address(CARRIER) {
            self.agents[0].receive(self.now, from, bytes);
        } else if to == address(CENTRE) {
            self.agents[1].receive(self.now, from, bytes);
        } else if to == address(LISTEN_CARRIER) || to == address(LISTEN_CENTRE) {
            self.core.receive(self.now, &Flow::udp(to, from), bytes);
        }
        self.collect();
    }

    /// Takes every port, so that no call can begin.
    fn exhaust(&mut self) -> Vec<MediaPort> {
        std::iter::from_fn(|| self.media.reserve("centre0", Family::V4).ok()).collect()
    }
}

fn run(settings: &Arc<Settings>, seed: u64) -> Seen {
    let mut world = World::new(settings, seed);
    let exhausted = world.random.random_bool(0.03);
    let taken = if exhausted {
        world.exhaust()
    } else {
        Vec::new()
    };
    let forth = world.random.random_bool(0.7);
    let (caller, number) = if forth {
        (0, "+15551234")
    } else {
        (1, "+441234")
    };
    let now = world.now;
    world.agents[caller].call(now, number, &mut world.random);
    world.collect();
    let end = world.now + Duration::from_secs(1_000);
    while world.step() {
        assert!(world.now < end, "seed {seed}: it never ends");
    }
    for port in taken {
        world.media.release(port);
    }
    assert!(world.core.calls().is_empty(), "seed {seed}: a call is left");
    assert!(world.core.is_idle(), "seed {seed}: a transaction is left");
    assert!(world.core.is_clean(), "seed {seed}: a table is not empty");
    assert_eq!(world.media.reserved_ports(), 0, "seed {seed}: ports");
    assert!(world.media.calls().is_empty(), "seed {seed}: media");
    let mut seen = Seen::default();
    for agent in &world.agents {
        assert!(
            agent.dialogs.values().all(|dialog| dialog.is_over),
            "seed {seed}: a dialog is open"
        );
        assert!(agent.is_idle(), "seed {seed}: an agent waits");
        seen.add(agent.seen);
    }
    seen
}

#[test]
fn ten_thousand_random_calls_leave_nothing_behind() {
    let settings = settings(SETTINGS);
    let threads = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    let seen = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|worker| {
                let settings = &settings;
                scope.spawn(move || {
                    let mut seen = Seen::default();
                    for seed in (worker..RUNS).step_by(threads as usize) {
                        seen.add(run(settings, seed));
                    }
                    seen
                })
            })
            .collect();
        let mut seen = Seen::default();
        for worker in workers {
            seen.add(worker.join().unwrap());
        }
        seen
    });
    // The chances must have led everywhere, or the test shows little.
    let each = [
        seen.answered,
        seen.refused,
        seen.cancelled,
        seen.reinvited,
        seen.glares,
        seen.infos,
        seen.byes,
        seen.referred,
        seen.transferred,
    ];
    assert!(each.iter().all(|count| *count > 50), "{seen:?}");
}
