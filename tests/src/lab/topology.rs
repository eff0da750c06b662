//! Three parties around the session border controller, each on an interface of its own.

use std::{
    env, fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

use super::{
    LabError, Result, cleanup,
    namespace::{Namespace, run},
};

/// Who takes part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Party {
    Carrier,
    ContactCentre,
    Teams,
}

/// Which end of a party's link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The session border controller's.
    Sbc,
    /// The party's own.
    Peer,
}

impl Party {
    pub const ALL: [Self; 3] = [Self::Carrier, Self::ContactCentre, Self::Teams];

    /// The trunk's name.
    #[must_use]
    pub const fn trunk(self) -> &'static str {
        match self {
            Self::Carrier => "carrier",
            Self::ContactCentre => "contact-centre",
            Self::Teams => "teams",
        }
    }

    /// The interface towards the party, in the session border controller's namespace.
    #[must_use]
    pub const fn interface(self) -> &'static str {
        match self {
            Self::Carrier => "carrier0",
            Self::ContactCentre => "centre0",
            Self::Teams => "teams0",
        }
    }

    /// An address out of the ranges for documentation (RFC 5737, RFC 3849).
    #[must_use]
    pub const fn ipv4(self, side: Side) -> IpAddr {
        let host = match side {
            Side::Sbc => 1,
            Side::Peer => 2,
        };
        IpAddr::V4(match self {
            Self::Carrier => Ipv4Addr::new(198, 51, 100, host),
            Self::ContactCentre => Ipv4Addr::new(203, 0, 113, host),
            Self::Teams => Ipv4Addr::new(192, 0, 2, host),
        })
    }

    #[must_use]
    pub const fn ipv6(self, side: Side) -> IpAddr {
        let host = match side {
            Side::Sbc => 1,
            Side::Peer => 2,
        };
        let network = match self {
            Self::Carrier => 1,
            Self::ContactCentre => 2,
            Self::Teams => 3,
        };
        IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, network, 0, 0, 0, 0, host))
    }
}

/// The namespaces of one run and a directory for its files.
#[derive(Debug)]
pub struct Lab {
    sbc: Namespace,
    peers: [Namespace; 3],
    directory: PathBuf,
    kept: bool,
}

impl Lab {
    /// Sets everything up.
    ///
    /// # Errors
    /// When `ip` or `ethtool` refuse; without root, for one.
    pub fn new() -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        if !nix::unistd::geteuid().is_root() {
            return Err(LabError::new(
                "network namespaces want root: run this with sudo",
            ));
        }
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{}{}-{number}", cleanup::PREFIX, std::process::id());
        let directory = env::temp_dir().join(&name);
        fs::create_dir_all(&directory)
            .map_err(|error| LabError::new(format!("{}: {error}", directory.display())))?;
        cleanup::register_directory(&directory);
        let made = Self::join(&name, &directory);
        if made.is_err() {
            cleanup::remove_directory(&directory);
        }
        made
    }

    fn join(name: &str, directory: &Path) -> Result<Self> {
        let sbc = Namespace::create(format!("{name}-sbc"))?;
        let peer = |party: Party| -> Result<Namespace> {
            let peer = Namespace::create(format!("{name}-{}", party.trunk()))?;
            link(&sbc, &peer, party)?;
            Ok(peer)
        };
        let peers = [
            peer(Party::Carrier)?,
            peer(Party::ContactCentre)?,
            peer(Party::Teams)?,
        ];
        Ok(Self {
            sbc,
            peers,
            directory: directory.to_owned(),
            kept: false,
        })
    }

    /// Where the session border controller lives.
    #[must_use]
    pub fn sbc(&self) -> &Namespace {
        &self.sbc
    }

    #[must_use]
    pub fn peer(&self, party: Party) -> &Namespace {
        &self.peers[party as usize]
    }

    /// Where the run's files are.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Leaves the directory in place for a person to look into.
    pub fn keep_files(&mut self) {
        self.kept = true;
        cleanup::keep_directory(&self.directory);
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.keep_files();
            eprintln!("what the peers said: {}", self.directory.display());
        }
        if !self.kept {
            cleanup::remove_directory(&self.directory);
        }
    }
}

fn link(sbc: &Namespace, peer: &Namespace, party: Party) -> Result<()> {
    let near = party.interface();
    run(
        "ip",
        &[
            "link",
            "add",
            near,
            "netns",
            sbc.name(),
            "type",
            "veth",
            "peer",
            "name",
            "eth0",
            "netns",
            peer.name(),
        ],
    )?;
    for (namespace, device, side) in [(sbc, near, Side::Sbc), (peer, "eth0", Side::Peer)] {
        let ipv4 = format!("{}/24", party.ipv4(side));
        let ipv6 = format!("{}/64", party.ipv6(side));
        namespace.run("ip", &["address", "add", &ipv4, "dev", device])?;
        namespace.run("ip", &["address", "add", &ipv6, "dev", device, "nodad"])?;
        namespace.run("ip", &["link", "set", device, "up"])?;
        // A sender's partial checksum would not survive a rewrite. A redirect into a veth pair
        // wants its far end to have GRO (or a program) to receive by, switched on while it is up.
        namespace.run("ethtool", &["-K", device, "tx", "off"])?;
        namespace.run("ethtool", &["-K", device, "gro", "on"])?;
    }
    Ok(())
}
