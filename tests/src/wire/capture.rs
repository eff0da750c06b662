//! Frames of a namespace, from the first to the last, kept in memory.

use std::{
    fs,
    io::Read,
    net::{IpAddr, SocketAddr},
    path::Path,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use nix::{
    libc,
    sys::socket::{
        getsockopt, setsockopt,
        sockopt::{GetStruct, RcvBufForce},
    },
};
use socket2::{Domain, Protocol as SocketProtocol, Socket, Type};

use crate::lab::{LabError, Namespace, Result};

/// Every protocol, as packet sockets know it (`ETH_P_ALL`).
const EVERYTHING: i32 = 0x0003;
/// Octets of frames after which a capture stops growing.
const LIMIT: usize = 512 << 20;
/// Octets that the kernel keeps until they are read, whatever `net.core.rmem_max` says.
const BUFFER: usize = 64 << 20;
/// How long the frames that the kernel has counted may take to be read.
const PATIENCE: Duration = Duration::from_secs(20);

nix::getsockopt_impl!(
    Statistics,
    libc::SOL_PACKET,
    libc::PACKET_STATISTICS,
    libc::tpacket_stats,
    GetStruct<libc::tpacket_stats>
);

/// What the kernel has counted on a packet socket since it was last asked (packet(7)).
#[derive(Clone, Copy, Debug)]
struct Statistics;

/// A running capture of all frames that enter and leave a namespace.
#[derive(Debug)]
pub struct Capture {
    name: String,
    shared: Arc<Shared>,
    reader: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    socket: Socket,
    frames: Mutex<Frames>,
    grown: Condvar,
    stop: AtomicBool,
}

#[derive(Debug, Default)]
struct Frames {
    all: Vec<(Duration, Vec<u8>)>,
    octets: usize,
    /// Taken from the socket.
    read: u64,
    /// Read, but behind `LIMIT`.
    left_out: u64,
    /// Counted by the kernel, those that it had no room for among them.
    counted: u64,
    lost: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Udp,
    Tcp,
}

/// A UDP datagram, or the payload of a TCP segment.
#[derive(Clone, Debug)]
pub struct Datagram {
    /// Since the capture began.
    pub time: Duration,
    pub protocol: Protocol,
    pub source: SocketAddr,
    pub destination: SocketAddr,
    /// Of a TCP segment.
    pub sequence: u32,
    pub payload: Vec<u8>,
}

impl Capture {
    /// Begins; what the namespace sends and receives from here on is in the capture.
    ///
    /// # Errors
    /// When the packet socket is refused.
    pub fn start(namespace: &Namespace) -> Result<Self> {
        Self::with_buffer(namespace, BUFFER)
    }

    fn with_buffer(namespace: &Namespace, buffer: usize) -> Result<Self> {
        let open = || {
            let protocol = SocketProtocol::from(i32::from(
                u16::try_from(EVERYTHING).unwrap_or_default().to_be(),
            ));
            let socket = Socket::new(Domain::PACKET, Type::RAW, Some(protocol))?;
            setsockopt(&socket, RcvBufForce, &buffer)?;
            socket.set_read_timeout(Some(Duration::from_millis(50)))?;
            Ok::<_, std::io::Error>(socket)
        };
        let socket = namespace
            .enter(open)?
            .map_err(|error| LabError(format!("a packet socket: {error}")))?;
        let shared = Arc::new(Shared {
            socket,
            frames: Mutex::default(),
            grown: Condvar::new(),
            stop: AtomicBool::new(false),
        });
        let reader = thread::spawn({
            let shared = Arc::clone(&shared);
            move || shared.record()
        });
        Ok(Self {
            name: namespace.name().to_owned(),
            shared,
            reader: Some(reader),
        })
    }

    /// All that has been on the wire up to now.
    ///
    /// # Errors
    /// When the kernel says that frames were lost: what is not in such a capture may have been on
    /// the wire.
    pub fn datagrams(&self) -> Result<Vec<Datagram>> {
        let frames = self
            .shared
            .whole()
            .map_err(|why| LabError(format!("the capture in {}: {why}", self.name)))?;
        Ok(frames
            .all
            .iter()
            .filter_map(|(time, frame)| read(*time, frame))
            .collect())
    }

    /// Writes everything as a capture file that tshark and Wireshark read.
    ///
    /// # Errors
    /// What the file system says.
    pub fn write(&self, path: &Path) -> std::io::Result<()> {
        let mut file = Vec::new();
        for word in [0xa1b2_c3d4, 0x0004_0002, 0, 0, 65_536, 1u32] {
            file.extend_from_slice(&word.to_le_bytes());
        }
        let frames = self.shared.lock();
        for (time, frame) in &frames.all {
            let length = u32::try_from(frame.len()).map_err(std::io::Error::other)?;
            let seconds = u32::try_from(time.as_secs()).map_err(std::io::Error::other)?;
            for word in [seconds, time.subsec_micros(), length, length] {
                file.extend_from_slice(&word.to_le_bytes());
            }
            file.extend_from_slice(frame);
        }
        fs::write(path, file)
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Frames> {
        self.frames.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn record(&self) {
        let began = Instant::now();
        let mut socket = &self.socket;
        let mut frame = vec![0; 65_536];
        while !self.stop.load(Ordering::Relaxed) {
            let Ok(length) = socket.read(&mut frame) else {
                continue;
            };
            let mut frames = self.lock();
            frames.read += 1;
            if frames.octets < LIMIT {
                frames.octets += length;
                frames.all.push((began.elapsed(), frame[..length].to_vec()));
            } else {
                frames.left_out += 1;
            }
            self.grown.notify_all();
        }
    }

    /// The frames, once everything that the kernel has counted is read; why they are not all, else.
    fn whole(&self) -> std::result::Result<MutexGuard<'_, Frames>, String> {
        let mut frames = self.lock();
        let new = getsockopt(&self.socket, Statistics).map_err(|error| error.to_string())?;
        frames.counted += u64::from(new.tp_packets);
        frames.lost += u64::from(new.tp_drops);
        let wanted = frames.counted - frames.lost;
        let frames = self
            .grown
            .wait_timeout_while(frames, PATIENCE, |frames| frames.read < wanted)
            .unwrap_or_else(PoisonError::into_inner)
            .0;
        let missing = frames.lost + frames.left_out + wanted.saturating_sub(frames.read);
        if missing == 0 {
            return Ok(frames);
        }
        Err(format!(
            "{missing} of {} frames are missing ({} did not fit into the socket's buffer, {} into \
             memory), so that it shows nothing; fewer calls at a time, or a calmer machine",
            frames.counted, frames.lost, frames.left_out
        ))
    }
}

fn read(time: Duration, frame: &[u8]) -> Option<Datagram> {
    let sliced = SlicedPacket::from_ethernet(frame).ok()?;
    let (source, destination): (IpAddr, IpAddr) = match sliced.net? {
        NetSlice::Ipv4(header) => (
            header.header().source_addr().into(),
            header.header().destination_addr().into(),
        ),
        NetSlice::Ipv6(header) => (
            header.header().source_addr().into(),
            header.header().destination_addr().into(),
        ),
        NetSlice::Arp(_) => return None,
    };
    let (protocol, from, to, sequence, payload) = match sliced.transport? {
        TransportSlice::Udp(udp) => (
            Protocol::Udp,
            udp.source_port(),
            udp.destination_port(),
            0,
            udp.payload(),
        ),
        TransportSlice::Tcp(tcp) => (
            Protocol::Tcp,
            tcp.source_port(),
            tcp.destination_port(),
            tcp.sequence_number(),
            tcp.payload(),
        ),
        _ => return None,
    };
    Some(Datagram {
        time,
        protocol,
        source: SocketAddr::new(source, from),
        destination: SocketAddr::new(destination, to),
        sequence,
        payload: payload.to_vec(),
    })
}

#[cfg(test)]
mod rooted {
    use std::net::UdpSocket;

    use super::*;

    /// So many that the least buffer cannot hold them, nor one of `rmem_max`.
    const MANY: usize = 4_000;

    fn namespace(name: &str) -> Namespace {
        Namespace::create(format!("tl-{}-{name}", std::process::id())).expect("a namespace")
    }

    /// Sends datagrams over the namespace's loopback while nothing is read.
    fn send(namespace: &Namespace, capture: &Capture) {
        let reader = capture.shared.lock();
        let sent = namespace.enter(|| {
            let socket = UdpSocket::bind("127.0.0.1:0")?;
            (0..MANY).try_for_each(|_| socket.send_to(&[7; 160], "127.0.0.1:9").map(|_| ()))
        });
        sent.expect("the namespace").expect("datagrams");
        drop(reader);
    }

    #[test]
    fn everything_that_was_sent_is_there_at_once() {
        let namespace = namespace("whole");
        let capture = Capture::start(&namespace).expect("a capture");
        send(&namespace, &capture);
        let datagrams = capture.datagrams().expect("all of them");
        let ours = datagrams.iter().filter(|it| it.payload == [7; 160]);
        // Loopback shows each as it leaves and as it comes.
        assert_eq!(ours.count(), 2 * MANY);
    }

    #[test]
    fn a_capture_that_lost_frames_says_so_instead() {
        let namespace = namespace("lossy");
        let capture = Capture::with_buffer(&namespace, 1).expect("a capture");
        send(&namespace, &capture);
        for _ in 0..2 {
            let error = capture.datagrams().expect_err("nothing to rest on");
            let text = error.to_string();
            assert!(
                text.contains("did not fit into the socket's buffer"),
                "{text}"
            );
            assert!(text.contains(namespace.name()), "{text}");
        }
    }
}
