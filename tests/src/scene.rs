//! A laboratory with Trunkline in it, for end-to-end tests. What goes wrong here panics: a test
//! has nothing better to do.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use crate::{
    daemon::{CallView, Daemon, DaemonSettings, SIP_PORT, TLS_PORT},
    lab::{Lab, Party, Side, wait_until},
    peers::{
        Baresip, BaresipConfig, Certificates, MediaEncryption, Scenario, SipTransport, Sipp,
        SippConfig,
    },
    sound::Melody,
    wire::{Capture, Datagram, Sighting, sightings, stream_to},
};

/// A bound on everything that should happen at once; a failure, not a measure.
pub const LIMIT: Duration = Duration::from_secs(40);

/// The laboratory, the daemon and a capture of each party's wire.
pub struct Scene {
    // The daemon goes before the laboratory that it lives in.
    pub daemon: Daemon,
    captures: [Capture; 3],
    pub certificates: Certificates,
    pub lab: Lab,
}

/// One party's side of a call by SIPp.
#[derive(Clone, Copy)]
pub struct Part<'a> {
    pub scenario: Scenario,
    pub talk: Duration,
    pub melody: Option<&'a Melody>,
}

impl<'a> Part<'a> {
    /// A part that plays a melody. `talk`: before it hangs up, if it is who does.
    #[must_use]
    pub const fn playing(scenario: Scenario, talk: Duration, melody: &'a Melody) -> Self {
        Self {
            scenario,
            talk,
            melody: Some(melody),
        }
    }

    /// A part without sound.
    #[must_use]
    pub const fn silent(scenario: Scenario, talk: Duration) -> Self {
        Self {
            scenario,
            talk,
            melody: None,
        }
    }
}

impl Scene {
    /// # Panics
    /// When something does not come up.
    #[must_use]
    pub fn new(settings: &DaemonSettings) -> Self {
        let lab = Lab::new().expect("a laboratory");
        let certificates = Certificates::make(lab.directory()).expect("certificates");
        let captures = Party::ALL.map(|party| Capture::start(lab.peer(party)).expect("a capture"));
        let daemon = Daemon::start(&lab, settings, &certificates).expect("trunkline");
        Self {
            daemon,
            captures,
            certificates,
            lab,
        }
    }

    /// All that has been on a party's wire.
    ///
    /// # Panics
    /// When frames of it are lost.
    #[must_use]
    pub fn datagrams(&self, party: Party) -> Vec<Datagram> {
        let datagrams = self.captures[party as usize].datagrams();
        datagrams.unwrap_or_else(|error| panic!("{error}"))
    }

    /// The SIP messages on a party's wire, in the clear.
    ///
    /// # Panics
    /// When frames of it are lost.
    #[must_use]
    pub fn messages(&self, party: Party) -> Vec<Sighting> {
        sightings(&self.datagrams(party))
    }

    /// Waits for a SIP message on a party's wire.
    ///
    /// # Panics
    /// When it does not come.
    pub fn wait_message(&self, party: Party, what: &str, is: impl Fn(&Sighting) -> bool) {
        let seen = wait_until(LIMIT, || self.messages(party).iter().any(&is));
        assert!(seen, "{what} on the wire of {}", party.trunk());
    }

    /// A SIPp that is called.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    pub fn sipp_called(
        &self,
        party: Party,
        address: fn(Party, Side) -> IpAddr,
        tcp: bool,
        part: Part<'_>,
    ) -> Sipp {
        Sipp::start(
            &self.lab,
            &SippConfig {
                name: &format!("{}-called", party.trunk()),
                party,
                local: SocketAddr::new(address(party, Side::Peer), SIP_PORT),
                remote: None,
                tcp,
                media_port: 30_000,
                number: "called",
                scenario: part.scenario,
                talk: part.talk,
                melody: part.melody,
                calls: 1,
            },
        )
        .expect("SIPp")
    }

    /// A SIPp that calls.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    pub fn sipp_calls(
        &self,
        party: Party,
        address: fn(Party, Side) -> IpAddr,
        port: u16,
        number: &str,
        part: Part<'_>,
    ) -> Sipp {
        Sipp::start(
            &self.lab,
            &SippConfig {
                name: &format!("{}-calls-{number}-{port}", party.trunk()),
                party,
                local: SocketAddr::new(address(party, Side::Peer), port),
                remote: Some(SocketAddr::new(address(party, Side::Sbc), SIP_PORT)),
                tcp: false,
                media_port: 26_930 + port,
                number,
                scenario: part.scenario,
                talk: part.talk,
                melody: part.melody,
                calls: 1,
            },
        )
        .expect("SIPp")
    }

    /// The Teams side.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    pub fn teams(&self, answers: bool, melody: &Melody) -> Baresip {
        Baresip::start(
            &self.lab,
            &BaresipConfig {
                name: "teams",
                party: Party::Teams,
                local: SocketAddr::new(Party::Teams.ipv4(Side::Peer), TLS_PORT),
                transport: SipTransport::Tls,
                media: MediaEncryption::Sdes,
                media_port: 40_000,
                control_port: 4_444,
                users: &[if answers { "+16660000" } else { "+15550200" }],
                answers,
                melody,
                certificates: Some(&self.certificates),
            },
        )
        .expect("baresip")
    }

    /// A contact centre's baresip that answers.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    pub fn centre(&self, transport: SipTransport, melody: &Melody) -> Baresip {
        Baresip::start(
            &self.lab,
            &BaresipConfig {
                name: "centre",
                party: Party::ContactCentre,
                local: SocketAddr::new(Party::ContactCentre.ipv4(Side::Peer), SIP_PORT),
                transport,
                media: MediaEncryption::None,
                media_port: 40_000,
                control_port: 4_444,
                users: &["+15551000"],
                answers: true,
                melody,
                certificates: None,
            },
        )
        .expect("baresip")
    }

    /// Waits until the daemon's only call is as wanted and gives it.
    ///
    /// # Panics
    /// When it does not become so.
    #[must_use]
    pub fn wait_call(&self, what: &str, is: impl Fn(&CallView) -> bool) -> CallView {
        let mut last = Vec::new();
        let seen = wait_until(LIMIT, || {
            last = self.daemon.calls().unwrap_or_default();
            last.len() == 1 && is(&last[0])
        });
        assert!(
            seen,
            "{what}; the calls are {last:?}; log:\n{}",
            self.daemon.log()
        );
        last.remove(0)
    }

    /// Waits until the daemon has no call any more.
    ///
    /// # Panics
    /// When it keeps one.
    pub fn wait_no_call(&self) {
        let mut last = Vec::new();
        let seen = wait_until(LIMIT, || {
            let calls = self.daemon.calls();
            let none = calls.as_ref().is_ok_and(Vec::is_empty);
            last = calls.unwrap_or_default();
            none
        });
        assert!(seen, "no call is left; the calls are {last:?}");
    }

    /// Nothing of a call is lost but what the workers dropped for its age, and counted: that is the
    /// machine's doing, which kept them from it for 200 ms.
    ///
    /// # Panics
    /// When more is lost, or the metrics cannot be read.
    pub fn assert_nothing_lost(&self, call: &CallView) {
        let stale = self.stale();
        let lost: u64 = call.streams.iter().map(|stream| stream.lost).sum();
        assert!(lost <= stale, "{stale} were too old: {call:?}");
    }

    /// How many packets the workers have dropped for their age.
    ///
    /// # Panics
    /// When the metrics cannot be read.
    #[must_use]
    pub fn stale(&self) -> u64 {
        let labels = [("path", "userspace"), ("reason", "stale")];
        let name = "trunkline_packets_total";
        let stale = self.daemon.metric(&self.lab, name, &labels);
        stale.expect("metrics") as u64
    }

    /// Waits until the kernel has relayed the streams of these directions for two seconds, whatever
    /// the workers had to learn before, and gives the call when `is` holds of it. Nothing in between
    /// may be the workers'.
    ///
    /// # Panics
    /// When it does not become so.
    #[must_use]
    pub fn wait_call_by_kernel(
        &self,
        what: &str,
        directions: &[usize],
        is: impl Fn(&CallView) -> bool,
    ) -> CallView {
        const ENOUGH: u64 = 100;
        let taken_over = |call: &CallView| {
            let mut streams = directions.iter().map(|place| call.streams.get(*place));
            streams.all(|it| it.is_some_and(|it| it.packets_xdp >= ENOUGH))
        };
        let before = self.wait_call("the kernel has the call", taken_over);
        let after = self.wait_call(what, is);
        for place in directions {
            let (before, after) = (&before.streams[*place], &after.streams[*place]);
            assert_eq!((after.path.as_str(), &after.reason), ("xdp", &None));
            assert_eq!(
                after.packets_userspace, before.packets_userspace,
                "{after:?}"
            );
        }
        self.assert_nothing_lost(&after);
        after
    }

    /// What arrived for a party of SIPp's: at the address in its last SDP.
    ///
    /// # Panics
    /// When it has sent no SDP, nothing came, or frames are lost.
    #[must_use]
    pub fn heard_at(&self, party: Party) -> Vec<i16> {
        let datagrams = self.datagrams(party);
        let own = [party.ipv4(Side::Peer), party.ipv6(Side::Peer)];
        let wanted = sightings(&datagrams)
            .iter()
            .filter(|message| own.contains(&message.source.ip()))
            .filter_map(Sighting::audio)
            .next_back()
            .expect("an SDP of the party's");
        stream_to(&datagrams, wanted)
            .expect("a stream for the party")
            .sound()
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        for party in Party::ALL {
            let path = self.lab.directory().join(format!("{}.pcap", party.trunk()));
            let _ = self.captures[party as usize].write(&path);
        }
    }
}
