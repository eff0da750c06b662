//! Frames of a namespace, from the first to the last, kept in memory.

use std::{
    fs,
    io::Read,
    net::{IpAddr, SocketAddr},
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use socket2::{Domain, Protocol as SocketProtocol, Socket, Type};

use crate::lab::{LabError, Namespace, Result};

/// Every protocol, as packet sockets know it (`ETH_P_ALL`).
const EVERYTHING: i32 = 0x0003;
/// Octets of frames after which a capture stops growing.
const LIMIT: usize = 512 << 20;

/// A running capture of all frames that enter and leave a namespace.
#[derive(Debug)]
pub struct Capture {
    frames: Arc<Mutex<Frames>>,
    stop: Arc<AtomicBool>,
    reader: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Frames {
    all: Vec<(Duration, Vec<u8>)>,
    octets: usize,
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
        let open = || {
            let protocol = SocketProtocol::from(i32::from(
                u16::try_from(EVERYTHING).unwrap_or_default().to_be(),
            ));
            let socket = Socket::new(Domain::PACKET, Type::RAW, Some(protocol))?;
            socket.set_recv_buffer_size(16 << 20)?;
            socket.set_read_timeout(Some(Duration::from_millis(50)))?;
            Ok::<_, std::io::Error>(socket)
        };
        let socket = namespace
            .enter(open)?
            .map_err(|error| LabError(format!("a packet socket: {error}")))?;
        let frames = Arc::new(Mutex::new(Frames::default()));
        let stop = Arc::new(AtomicBool::new(false));
        let reader = thread::spawn({
            let frames = Arc::clone(&frames);
            let stop = Arc::clone(&stop);
            move || record(&socket, &frames, &stop)
        });
        Ok(Self {
            frames,
            stop,
            reader: Some(reader),
        })
    }

    /// What has been seen so far.
    #[must_use]
    pub fn datagrams(&self) -> Vec<Datagram> {
        let frames = self.frames.lock().unwrap_or_else(PoisonError::into_inner);
        frames
            .all
            .iter()
            .filter_map(|(time, frame)| read(*time, frame))
            .collect()
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
        let frames = self.frames.lock().unwrap_or_else(PoisonError::into_inner);
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

    /// How many frames have been seen so far.
    #[must_use]
    pub fn len(&self) -> usize {
        let frames = self.frames.lock().unwrap_or_else(PoisonError::into_inner);
        frames.all.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}

fn record(mut socket: &Socket, frames: &Mutex<Frames>, stop: &AtomicBool) {
    let began = Instant::now();
    let mut frame = vec![0; 65_536];
    while !stop.load(Ordering::Relaxed) {
        let Ok(length) = socket.read(&mut frame) else {
            continue;
        };
        let mut frames = frames.lock().unwrap_or_else(PoisonError::into_inner);
        if frames.octets < LIMIT {
            frames.octets += length;
            frames.all.push((began.elapsed(), frame[..length].to_vec()));
        }
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
