//! Two layers joined by a network that loses, doubles, delays and reorders, in simulated time.

use std::{cmp::Reverse, collections::BinaryHeap, collections::HashMap, thread, time::Duration};

use rand::Rng;

use super::{
    super::{CSeq, Limits, Method, Request, SipUri, Transport, parse},
    *,
};

/// What the network does to a message.
#[derive(Clone, Copy, Debug)]
struct Weather {
    transport: Transport,
    /// In each direction.
    loss: [f64; 2],
    doubling: f64,
    /// The longest delay; a stream keeps its order.
    delay: Duration,
}

/// One end and what its user remembers.
struct End {
    layer: TransactionLayer,
    /// 2xx that wait for their ACK, by Call-ID.
    successes: HashMap<Text, SuccessRetransmission>,
    /// Our client transactions that have no outcome yet, with their request.
    open: HashMap<TransactionId, Request>,
    /// The server transactions that may still be answered, with their request.
    pending: HashMap<TransactionId, Request>,
    /// How often each request came up, by method, Call-ID and CSeq.
    seen: HashMap<String, u32>,
    outcomes: u32,
    timeouts: u32,
    ended: u32,
}

enum Action {
    Start(Method),
    Answer(TransactionId, u16),
    Cancel(TransactionId),
}

struct World {
    random: StdRng,
    weather: Weather,
    start: Instant,
    now: Instant,
    ends: [End; 2],
    /// Messages under way: when they arrive, and to which end.
    network: BinaryHeap<Reverse<(Instant, u64, usize, Bytes)>>,
    actions: BinaryHeap<Reverse<(Instant, u64)>>,
    plans: HashMap<u64, (usize, Action)>,
    counter: u64,
    /// The last arrival in each direction, for streams.
    last: [Instant; 2],
    sent: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let start = Instant::now();
        let transport = if seed.is_multiple_of(4) {
            Transport::Tcp
        } else {
            Transport::Udp
        };
        let loss = if transport.is_reliable() {
            [0.0; 2]
        } else {
            match seed % 16 {
                // One way dead, or as good as.
                1 => [1.0, 0.0],
                2 => [0.0, 1.0],
                3 => [0.9, 0.9],
                _ => [random.random_range(0.0..0.4), random.random_range(0.0..0.4)],
            }
        };
        let weather = Weather {
            transport,
            loss,
            doubling: random.random_range(0.0..0.3),
            delay: Duration::from_millis(random.random_range(1..2500)),
        };
        let end = |seed| End {
            layer: TransactionLayer::new(TransactionSettings::default(), seed),
            successes: HashMap::new(),
            open: HashMap::new(),
            pending: HashMap::new(),
            seen: HashMap::new(),
            outcomes: 0,
            timeouts: 0,
            ended: 0,
        };
        Self {
            ends: [end(seed), end(!seed)],
            random,
            weather,
            start,
            now: start,
            network: BinaryHeap::new(),
            actions: BinaryHeap::new(),
            plans: HashMap::new(),
            counter: 0,
            last: [start; 2],
            sent: 0,
        }
    }

    fn plan(&mut self, after: Duration, end: usize, action: Action) {
        self.counter += 1;
        self.plans.insert(self.counter, (end, action));
        self.actions.push(Reverse((self.now + after, self.counter)));
    }

    fn wait(&mut self, milliseconds: std::ops::Range<u64>) -> Duration {
        Duration::from_millis(self.random.random_range(milliseconds))
    }

    fn flow(&self, end: usize) -> Target {
        let address = |end: usize| {
            format!("192.0.2.{}:5060", end + 1)
                .parse()
                .expect("address")
        };
        Target {
            transport: self.weather.transport,
            ..Target::udp(address(end), address(1 - end))
        }
    }

    fn transmit(&mut self, from: usize, bytes: &Bytes) {
        self.sent += 1;
        let copies = if self.weather.transport.is_reliable() {
            1
        } else if self.random.random_bool(self.weather.loss[from]) {
            0
        } else if self.random.random_bool(self.weather.doubling) {
            2
        } else {
            1
        };
        for _ in 0..copies {
            let mut arrival = self.now + self.weather.delay.mul_f64(self.random.random());
            if self.weather.transport.is_reliable() {
                arrival = arrival.max(self.last[from]);
                self.last[from] = arrival;
            }
            self.counter += 1;
            self.network
                .push(Reverse((arrival, self.counter, 1 - from, bytes.clone())));
        }
    }

    /// Runs until nothing is under way and nobody waits for anything.
    fn run(&mut self) {
        loop {
            let mut next = self.network.peek().map(|Reverse((at, ..))| *at);
            let mut earlier = |at: Option<Instant>| {
                next = match (next, at) {
                    (Some(next), Some(at)) => Some(next.min(at)),
                    (next, at) => next.or(at),
                };
            };
            earlier(self.actions.peek().map(|Reverse((at, _))| *at));
            for end in &mut self.ends {
                earlier(end.layer.next_timeout());
                earlier(
                    end.successes
                        .values()
                        .map(SuccessRetransmission::next_timeout)
                        .min(),
                );
            }
            let Some(next) = next else { return };
            self.now = self.now.max(next);
            assert!(
                self.now - self.start < Duration::from_secs(3600),
                "it never ends"
            );
            self.step();
        }
    }

    fn step(&mut self) {
        while let Some(Reverse((at, _, to, bytes))) = self.network.peek().cloned()
            && at <= self.now
        {
            self.network.pop();
            let message = parse(&bytes, &Limits::default()).expect("what is sent is good");
            let flow = self.flow(to);
            self.ends[to].layer.receive(self.now, &flow, message);
            self.drain(to);
        }
        while let Some(Reverse((at, plan))) = self.actions.peek().copied()
            && at <= self.now
        {
            self.actions.pop();
            if let Some((end, action)) = self.plans.remove(&plan) {
                self.act(end, action);
                self.drain(end);
            }
        }
        for end in 0..2 {
            self.ends[end].layer.timeout(self.now);
            let mut again = Vec::new();
            let now = self.now;
            self.ends[end].successes.retain(|_, success| {
                if success.next_timeout() > now {
                    return true;
                }
                match success.timeout(now) {
                    SuccessStep::Wait => true,
                    SuccessStep::Transmit { target, bytes } => {
                        again.push((target, bytes));
                        true
                    }
                    SuccessStep::NoAck => false,
                }
            });
            // The order of a map is not the seed's.
            again.sort_by(|(_, a), (_, b)| a.cmp(b));
            for (target, bytes) in again {
                self.ends[end].layer.transmit(target, bytes);
            }
            self.drain(end);
        }
    }

    fn act(&mut self, end: usize, action: Action) {
        let now = self.now;
        match action {
            Action::Start(method) => {
                self.counter += 1;
                let request = Request::new(
                    method.clone(),
                    SipUri::new(Some("bob"), "192.0.2.2", None).into(),
                )
                .with(HeaderName::From, "<sip:a@a>;tag=f")
                .with(HeaderName::To, "<sip:b@b>")
                .with(HeaderName::CallId, format!("{}", self.counter))
                .with(HeaderName::CSeq, CSeq::new(1, method.clone()));
                let flow = self.flow(end);
                let sent_by = SentBy {
                    host: format!("192.0.2.{}", end + 1).into(),
                    port: None,
                };
                let end_state = &mut self.ends[end];
                let id = end_state
                    .layer
                    .request(now, flow, &sent_by, request.clone())
                    .expect("room");
                end_state.open.insert(id, request);
                if method == Method::Invite && self.random.random_bool(0.3) {
                    let after = self.wait(0..20_000);
                    self.plan(after, end, Action::Cancel(id));
                }
            }
            Action::Cancel(id) => {
                let _ = self.ends[end].layer.cancel(now, id, None);
            }
            Action::Answer(id, status) => {
                let state = &mut self.ends[end];
                let Some(request) = state.pending.get(&id).cloned() else {
                    return;
                };
                let response = Response::to_request(&request, status, Some("t"));
                if status >= 200 {
                    state.pending.remove(&id);
                }
                let target = state.layer.response_target(id);
                if state.layer.respond(now, id, &response).is_ok()
                    && request.method == Method::Invite
                    && response.is_success()
                {
                    let call = request.headers.call_id().expect("call");
                    let success = SuccessRetransmission::new(
                        now,
                        state.layer.settings(),
                        target.expect("a target"),
                        response.to_bytes(),
                    );
                    state.successes.insert(call, success);
                }
            }
        }
    }

    fn drain(&mut self, end: usize) {
        while let Some(output) = self.ends[end].layer.poll() {
            match output {
                TransactionOutput::Transmit { bytes, .. } => self.transmit(end, &bytes),
                TransactionOutput::Event(event) => self.event(end, event),
            }
        }
    }

    fn event(&mut self, end: usize, event: TransactionEvent) {
        match event {
            TransactionEvent::Request { id, request, .. } => {
                let name = format!(
                    "{} {}",
                    request.method,
                    request.headers.call_id().expect("call")
                );
                *self.ends[end].seen.entry(name).or_default() += 1;
                let invite = request.method == Method::Invite;
                self.ends[end].pending.insert(id, request);
                self.plan_answer(end, id, invite);
            }
            TransactionEvent::Ack { request, .. } => {
                let call = request.headers.call_id().expect("call");
                self.ends[end].successes.remove(&call);
            }
            TransactionEvent::Cancel { invite, .. } => {
                let after = self.wait(0..50);
                self.plan(after, end, Action::Answer(invite, 487));
            }
            TransactionEvent::Response { id, response, .. } => {
                let invite = response.headers.cseq().expect("cseq").method == Method::Invite;
                if invite && response.is_success() {
                    self.acknowledge(end, &response);
                }
                if response.is_provisional() {
                    assert!(self.ends[end].open.contains_key(&id), "late provisional");
                } else if self.ends[end].open.remove(&id).is_some() {
                    self.ends[end].outcomes += 1;
                    if invite && response.is_success() {
                        let after = self.wait(0..5000);
                        self.plan(after, end, Action::Start(Method::Bye));
                    }
                } else {
                    assert!(
                        invite && response.is_success(),
                        "a second outcome that is no 2xx to an INVITE"
                    );
                }
            }
            TransactionEvent::Timeout { id } | TransactionEvent::TransportFailed { id } => {
                assert!(
                    self.ends[end].open.remove(&id).is_some(),
                    "a second outcome"
                );
                self.ends[end].outcomes += 1;
                self.ends[end].timeouts += 1;
            }
            TransactionEvent::NoAck { .. } => {}
            TransactionEvent::Terminated { id } => {
                assert!(
                    !self.ends[end].open.contains_key(&id),
                    "over without an outcome"
                );
                self.ends[end].pending.remove(&id);
                self.ends[end].ended += 1;
            }
        }
    }

    fn plan_answer(&mut self, end: usize, id: TransactionId, invite: bool) {
        let choice = self.random.random_range(0..10);
        let soon = self.wait(0..400);
        let later = soon + self.wait(0..30_000);
        if !invite {
            match choice {
                // Nobody answers.
                0 => {}
                1 => {
                    self.plan(soon, end, Action::Answer(id, 100));
                    self.plan(later, end, Action::Answer(id, 200));
                }
                _ => self.plan(soon, end, Action::Answer(id, 200)),
            }
            return;
        }
        match choice {
            // Rings until CANCEL, Timer C's at the latest; a peer that hears no CANCEL gives up.
            0 => {
                self.plan(soon, end, Action::Answer(id, 180));
                self.plan(Duration::from_secs(400), end, Action::Answer(id, 480));
            }
            1..=4 => {
                self.plan(soon, end, Action::Answer(id, 180));
                self.plan(later, end, Action::Answer(id, 200));
            }
            5 | 6 => self.plan(soon, end, Action::Answer(id, 200)),
            _ => {
                self.plan(soon, end, Action::Answer(id, 183));
                self.plan(later, end, Action::Answer(id, 486));
            }
        }
    }

    fn acknowledge(&mut self, end: usize, response: &Response) {
        let mut ack = Request::new(
            Method::Ack,
            SipUri::new(Some("bob"), "192.0.2.2", None).into(),
        );
        for name in [HeaderName::From, HeaderName::To, HeaderName::CallId] {
            ack.headers.extend(response.headers.get(name).cloned());
        }
        ack.headers
            .push(HeaderName::CSeq, CSeq::new(1, Method::Ack));
        let flow = self.flow(end);
        let sent_by = SentBy {
            host: format!("192.0.2.{}", end + 1).into(),
            port: None,
        };
        self.ends[end].layer.acknowledge(flow, &sent_by, ack);
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    fired: [u64; Timer::ALL.len()],
    sent: u64,
    /// Nobody gave up.
    heard: bool,
}

/// Runs one seed to its end and checks what a user of the layer relies on.
fn run(seed: u64) -> Outcome {
    let mut world = World::new(seed);
    for index in 0..6 {
        let method = match index % 3 {
            0 | 1 => Method::Invite,
            _ => Method::Options,
        };
        let end = usize::from(world.random.random_bool(0.5));
        let after = world.wait(0..3000);
        world.plan(after, end, Action::Start(method));
    }
    world.run();
    let mut fired = [0; Timer::ALL.len()];
    let timeouts: u32 = world.ends.iter().map(|end| end.timeouts).sum();
    for end in &mut world.ends {
        assert!(end.layer.is_empty(), "seed {seed}: transactions are left");
        assert!(end.layer.servers.is_empty(), "seed {seed}: keys are left");
        assert_eq!(end.layer.next_timeout(), None, "seed {seed}");
        assert_eq!(end.layer.slots.waiting(), 0, "seed {seed}: alarms are left");
        assert!(end.open.is_empty(), "seed {seed}: no outcome");
        assert!(end.pending.is_empty(), "seed {seed}: requests are left");
        assert!(end.successes.is_empty(), "seed {seed}: 2xx are left");
        assert!(end.ended >= end.outcomes);
        // A copy that arrives when its sender has given up, and everything that was answered is
        // forgotten, is a new request: no memory is for ever.
        if timeouts == 0 {
            for (request, times) in &end.seen {
                assert_eq!(*times, 1, "seed {seed}: {request} came up again");
            }
        }
        for (sum, timer) in fired.iter_mut().zip(Timer::ALL) {
            *sum += end.layer.fired(timer);
        }
    }
    Outcome {
        fired,
        sent: world.sent,
        heard: timeouts == 0,
    }
}

#[test]
fn whatever_the_network_does_every_transaction_ends_and_every_timer_fires() {
    const SEEDS: u64 = 4000;
    const THREADS: u64 = 4;
    let workers: Vec<_> = (0..THREADS)
        .map(|worker| {
            thread::spawn(move || {
                let mut sum = [0u64; Timer::ALL.len()];
                let mut heard = 0;
                for seed in (worker..SEEDS).step_by(THREADS as usize) {
                    let outcome = run(seed);
                    for (sum, fired) in sum.iter_mut().zip(outcome.fired) {
                        *sum += fired;
                    }
                    heard += u64::from(outcome.heard);
                }
                (sum, heard)
            })
        })
        .collect();
    let mut sum = [0u64; Timer::ALL.len()];
    let mut heard = 0;
    for worker in workers {
        let (part, heard_by_worker) = worker.join().expect("a world");
        for (sum, fired) in sum.iter_mut().zip(part) {
            *sum += fired;
        }
        heard += heard_by_worker;
    }
    assert!(heard > SEEDS / 4, "only {heard} runs without a time-out");
    for (timer, fired) in Timer::ALL.into_iter().zip(sum) {
        assert!(fired > 0, "timer {timer:?} never fired: {sum:?}");
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in [5, 7, 8, 17] {
        assert_eq!(run(seed), run(seed));
    }
}
