//! The kinds of calls that are made.

use std::net::IpAddr;

use crate::lab::{Party, Side};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Carrier to contact centre over IPv4, SIP over UDP and TCP.
    Centre,
    /// The same over IPv6 and UDP.
    CentreV6,
    /// Carrier to Teams: TLS and SRTP on that side.
    Teams,
    /// Teams to carrier.
    FromTeams,
}

impl Kind {
    pub(super) const ALL: [Self; 4] = [Self::Centre, Self::CentreV6, Self::Teams, Self::FromTeams];

    pub(super) const fn from(self) -> &'static str {
        match self {
            Self::FromTeams => Party::Teams.trunk(),
            _ => Party::Carrier.trunk(),
        }
    }

    pub(super) const fn to(self) -> &'static str {
        match self {
            Self::Centre | Self::CentreV6 => Party::ContactCentre.trunk(),
            Self::Teams => Party::Teams.trunk(),
            Self::FromTeams => Party::Carrier.trunk(),
        }
    }

    /// The legs for a person to read.
    pub(super) fn label(self) -> String {
        let family = match self {
            Self::CentreV6 => " (IPv6)",
            _ => "",
        };
        format!("{} → {}{family}", self.from(), self.to())
    }

    pub(super) const fn address(self, party: Party, side: Side) -> IpAddr {
        match self {
            Self::CentreV6 => party.ipv6(side),
            _ => party.ipv4(side),
        }
    }

    pub(super) fn number(self, index: u32) -> String {
        let prefix = match self {
            Self::Centre => "+15551",
            Self::CentreV6 => "+15552",
            Self::Teams => "+16660",
            Self::FromTeams => "+17770",
        };
        format!("{prefix}{index:05}")
    }
}
