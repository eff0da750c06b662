//! Who is called and who calls in the demo.

use std::{
    net::{IpAddr, SocketAddr},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use super::kind::Kind;
use crate::{
    daemon::{SIP_PORT, TLS_PORT},
    lab::{Lab, LabError, Party, Result, Side, wait_until},
    peers::{
        Baresip, BaresipConfig, Certificates, MediaEncryption, Scenario, SipTransport, Sipp,
        SippConfig,
    },
    sound::Melody,
};

/// The three parties' answering sides.
pub(super) struct Callees {
    pub(super) centre: Answering,
    pub(super) centre_v6: Answering,
    pub(super) teams: Answering,
    pub(super) carrier_melody: Melody,
    _carrier: Sipp,
}

/// A baresip that answers every call.
pub(super) struct Answering {
    pub(super) baresip: Baresip,
    pub(super) melody: Melody,
}

impl Callees {
    /// For so many calls of each kind; `length`: seconds of sound that everybody has.
    pub(super) fn start(
        lab: &Lab,
        certificates: &Certificates,
        calls: u32,
        length: usize,
    ) -> Result<Self> {
        let answering = |name: &str, kind: Kind, party, transport, seed| -> Result<Answering> {
            let melody = Melody::new(seed, length);
            let tls = transport == SipTransport::Tls;
            let numbers: Vec<String> = (0..calls).map(|index| kind.number(index)).collect();
            let numbers: Vec<&str> = numbers.iter().map(String::as_str).collect();
            let port = if tls { TLS_PORT } else { SIP_PORT };
            let baresip = Baresip::start(
                lab,
                &BaresipConfig {
                    name,
                    party,
                    local: SocketAddr::new(kind.address(party, Side::Peer), port),
                    transport,
                    media: if tls {
                        MediaEncryption::Sdes
                    } else {
                        MediaEncryption::None
                    },
                    media_port: 40_000,
                    control_port: if kind == Kind::CentreV6 { 4445 } else { 4444 },
                    users: &numbers,
                    answers: true,
                    melody: &melody,
                    certificates: tls.then_some(certificates),
                },
            )?;
            Ok(Answering { baresip, melody })
        };
        let carrier_melody = Melody::new(4, length);
        let carrier = Sipp::start(
            lab,
            &SippConfig {
                name: "carrier-answers",
                party: Party::Carrier,
                local: SocketAddr::new(Party::Carrier.ipv4(Side::Peer), SIP_PORT),
                remote: None,
                tcp: false,
                media_port: 30_000,
                number: "carrier",
                scenario: Scenario::Answer,
                talk: Duration::ZERO,
                melody: Some(&carrier_melody),
                calls: 0,
            },
        )?;
        let centre = Party::ContactCentre;
        Ok(Self {
            centre: answering("centre", Kind::Centre, centre, SipTransport::Tcp, 1)?,
            centre_v6: answering("centre-v6", Kind::CentreV6, centre, SipTransport::Udp, 2)?,
            teams: answering("teams", Kind::Teams, Party::Teams, SipTransport::Tls, 3)?,
            carrier_melody,
            _carrier: carrier,
        })
    }

    /// The baresip that answers calls of a kind; SIPp answers those from Teams.
    pub(super) fn of(&self, kind: Kind) -> Option<&Answering> {
        match kind {
            Kind::Centre => Some(&self.centre),
            Kind::CentreV6 => Some(&self.centre_v6),
            Kind::Teams => Some(&self.teams),
            Kind::FromTeams => None,
        }
    }

    /// Ends every call that a baresip has answered.
    pub(super) fn hang_up(&mut self, limit: Duration) -> Result<()> {
        for answering in [&mut self.centre, &mut self.centre_v6, &mut self.teams] {
            answering.baresip.quit(limit)?;
        }
        Ok(())
    }

    /// What the callee of a kind plays.
    pub(super) fn melody(&self, kind: Kind) -> &Melody {
        self.of(kind)
            .map_or(&self.carrier_melody, |answering| &answering.melody)
    }

    /// Calls that baresips at either end say are established.
    pub(super) fn answered(&self, callers: &[Caller]) -> usize {
        let callees = [&self.centre, &self.centre_v6, &self.teams];
        let at_callees: usize = callees
            .iter()
            .map(|answering| answering.baresip.established())
            .sum();
        let at_callers: usize = callers
            .iter()
            .filter_map(|caller| match &caller.peer {
                Peer::Baresip(baresip) => Some(baresip.established()),
                Peer::Sipp(_) => None,
            })
            .sum();
        at_callees + at_callers
    }
}

/// One call's caller.
pub(super) struct Caller {
    pub(super) kind: Kind,
    pub(super) index: u32,
    pub(super) melody: Melody,
    pub(super) peer: Peer,
}

pub(super) enum Peer {
    Sipp(Sipp),
    Baresip(Baresip),
}

impl Caller {
    pub(super) fn start(
        lab: &Lab,
        certificates: &Certificates,
        kind: Kind,
        index: u32,
        length: usize,
    ) -> Result<Self> {
        let melody = Melody::new(1_000 * (kind as u64 + 1) + u64::from(index), length);
        let number = kind.number(index);
        let offset = u16::try_from(index).map_err(LabError::new)?;
        let name = format!("caller{number}");
        let peer = match kind {
            Kind::FromTeams => {
                let mut baresip = Baresip::start(
                    lab,
                    &BaresipConfig {
                        name: &name,
                        party: Party::Teams,
                        local: SocketAddr::new(
                            Party::Teams.ipv4(Side::Peer),
                            TLS_PORT + 10 + offset * 2,
                        ),
                        transport: SipTransport::Tls,
                        media: MediaEncryption::Sdes,
                        media_port: 42_000 + offset * 20,
                        control_port: 4_500 + offset,
                        users: &["+15550200"],
                        answers: false,
                        melody: &melody,
                        certificates: Some(certificates),
                    },
                )?;
                let sbc = SocketAddr::new(Party::Teams.ipv4(Side::Sbc), TLS_PORT);
                baresip.dial(&format!("sip:{number}@{sbc};transport=tls"))?;
                Peer::Baresip(baresip)
            }
            _ => {
                let address = |side| -> IpAddr { kind.address(Party::Carrier, side) };
                Peer::Sipp(Sipp::start(
                    lab,
                    &SippConfig {
                        name: &name,
                        party: Party::Carrier,
                        local: SocketAddr::new(
                            address(Side::Peer),
                            SIP_PORT + 100 + 500 * kind as u16 + offset,
                        ),
                        remote: Some(SocketAddr::new(address(Side::Sbc), SIP_PORT)),
                        tcp: false,
                        media_port: 31_000 + 2_000 * kind as u16 + offset * 4,
                        number: &number,
                        scenario: Scenario::CallAndListen,
                        talk: Duration::ZERO,
                        melody: Some(&melody),
                        calls: 1,
                    },
                )?)
            }
        };
        Ok(Self {
            kind,
            index,
            melody,
            peer,
        })
    }

    pub(super) fn number(&self) -> String {
        self.kind.number(self.index)
    }

    /// Ends the call where a baresip is the caller; elsewhere the callee does.
    pub(super) fn hang_up(&mut self) -> Result<()> {
        match &mut self.peer {
            Peer::Baresip(baresip) => baresip.hang_up(),
            Peer::Sipp(_) => Ok(()),
        }
    }

    /// Waits until the call has ended.
    pub(super) fn finish(&mut self, limit: Duration) -> Result<()> {
        match &mut self.peer {
            Peer::Baresip(baresip) => baresip.wait_closed(1, limit),
            Peer::Sipp(sipp) => sipp.finish(limit),
        }
    }
}

/// Waits for the next second of the clock: baresip names its recordings by it.
pub(super) fn next_second() {
    let second = || {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs())
    };
    let now = second();
    wait_until(Duration::from_secs(3), || second() > now + 1);
}
