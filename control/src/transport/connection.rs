//! One TCP or TLS connection: framing inwards, a bounded queue outwards.

use std::{
    collections::HashSet,
    io,
    net::SocketAddr,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use rustls_pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    sync::{Notify, mpsc},
    time::{Instant, sleep_until, timeout, timeout_at},
};

use super::{
    Discard, SendError, Shared, TransportEvent,
    handshakes::Place,
    table::{Handle, Route},
    tls::Ends,
    verifier,
};
use crate::sip::{
    ConnectionId, Flow, Frame, Message, SipError, StreamFramer, Target, Transport, parse_shared,
};

/// How long a TLS handshake may take.
pub(super) const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long a connection of ours may take to open: less than SIP's own 32 seconds, so that there
/// is time for the next address.
const CONNECT: Duration = Duration::from_secs(5);
/// How long a message may take from its first octet to its last, and how long a peer that
/// connects may say nothing.
const MESSAGE: Duration = Duration::from_secs(30);
/// How long a peer may read nothing of what is sent to it.
const WRITE: Duration = Duration::from_secs(30);
/// How long the answer to a keep-alive may take (RFC 5626 §4.4.1).
const PONG: Duration = Duration::from_secs(10);
const READ_OCTETS: usize = 16 * 1024;

/// A message on its way to a connection.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) target: Target,
    pub(super) octets: Bytes,
}

/// Who opened a connection.
pub(super) enum Side {
    /// The peer. It holds a place among those that have not sent a message yet.
    Peer {
        handshake: Place,
    },
    Us,
}

/// A connection's place in the table; dropping it gives the place back.
pub(super) struct Opened {
    shared: Arc<Shared>,
    id: ConnectionId,
    flow: Flow,
    /// Of the names that the peer may go by, those that its certificate was found to hold.
    pub(super) peer_names: Vec<Arc<str>>,
    queue: mpsc::UnboundedReceiver<Outgoing>,
    queued: Arc<AtomicUsize>,
    close: Arc<Notify>,
}

impl Opened {
    /// Says which certificates it begins with, and what the peer has asked for.
    pub(super) fn identify(&mut self, ends: Arc<Ends>, own_name: Option<&str>) {
        self.flow.own_name = own_name.map(Arc::from);
        self.shared.table().identify(self.id, ends);
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        self.shared.table().remove(self.id);
    }
}

/// Enters a connection into the table. `route` is where it leads when we open it.
pub(super) fn register(shared: &Arc<Shared>, mut flow: Flow, route: Option<Route>) -> Opened {
    let (sender, queue) = mpsc::unbounded_channel();
    let handle = Handle {
        queue: sender,
        queued: Arc::new(AtomicUsize::new(0)),
        close: Arc::new(Notify::new()),
    };
    let queued = Arc::clone(&handle.queued);
    let close = Arc::clone(&handle.close);
    let id = shared.table().insert(handle, &mut flow, route);
    Opened {
        shared: Arc::clone(shared),
        id,
        flow,
        peer_names: Vec::new(),
        queue,
        queued,
        close,
    }
}

/// Sends on the connection that the target names, on one that is open, or on a new one.
pub(super) fn send(shared: &Arc<Shared>, mut outgoing: Outgoing) -> Result<(), SendError> {
    let view = shared.view();
    let target = &mut outgoing.target;
    if target.transport == Transport::Tls
        && target.server_name.is_none()
        && !shared.table().has(target)
    {
        // A response whose connection is gone (RFC 3261 §18.2.2).
        target.server_name = view.name_of_peer(target);
    }
    let limit = view.limits().write_octets;
    let ends = view.ends_to(&outgoing.target);
    let route = Route::to(&outgoing.target, ends.as_ref());
    let pushed = shared.table().push(outgoing, &route, limit);
    let outgoing = match pushed {
        Ok(None) => return Ok(()),
        Ok(Some(outgoing)) => outgoing,
        Err(error) => {
            shared.discards.count(Discard::SlowReader);
            return Err(error);
        }
    };
    let target = outgoing.target.clone();
    let tls = match target.transport {
        Transport::Tls => {
            let (Some(ends), Some(name)) = (ends, &target.server_name) else {
                return Err(SendError::NoCertificates);
            };
            let name =
                ServerName::try_from(name.to_string()).map_err(|_| SendError::NoCertificates)?;
            Some((ends, name))
        }
        _ => None,
    };
    let place = shared.connections.enter().ok_or_else(|| {
        shared.discards.count(Discard::Connections);
        SendError::Connections
    })?;
    let opened = register(shared, target.clone(), Some(route.clone()));
    if let Some((ends, _)) = &tls {
        shared.table().identify(opened.id, Arc::clone(ends));
    }
    // The queue is new and as long as its limit.
    let _ = shared.table().push(outgoing, &route, usize::MAX);
    let shared = Arc::clone(shared);
    tokio::spawn(async move {
        let _place = place;
        let opening = async {
            let stream = connect(target.local, target.remote).await?;
            match tls {
                None => Ok((Some(stream), None)),
                Some((ends, name)) => ends
                    .connector
                    .connect(name, stream)
                    .await
                    .map(|stream| (None, Some(stream))),
            }
        };
        match timeout(CONNECT, opening).await.unwrap_or_else(|_| {
            Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "no answer within five seconds",
            ))
        }) {
            Ok((Some(stream), _)) => run(stream, opened, Side::Us, &shared).await,
            Ok((None, Some(stream))) => run(stream, opened, Side::Us, &shared).await,
            Ok((None, None)) => {}
            Err(error) => {
                tracing::info!(
                    remote = %target.remote, transport = %target.transport, %error,
                    "a connection could not be opened"
                );
                match verifier::reason(&error) {
                    Discard::HandshakeFailed => {}
                    reason => shared.discards.count(reason),
                }
                fail(opened, &shared, None, false).await;
            }
        }
    });
    Ok(())
}

async fn connect(local: SocketAddr, remote: SocketAddr) -> io::Result<TcpStream> {
    let socket = if remote.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    socket.bind(SocketAddr::new(local.ip(), 0))?;
    let stream = socket.connect(remote).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Reports everything that waits as not sent, each target once. What waits for the `peer` that
/// opened the connection, responses for the most part, goes over a new one.
async fn fail(mut opened: Opened, shared: &Arc<Shared>, first: Option<Outgoing>, peer: bool) {
    shared.table().remove(opened.id);
    opened.queue.close();
    let mut failed = HashSet::new();
    let mut next = first;
    while let Some(outgoing) = next.or_else(|| opened.queue.try_recv().ok()) {
        let target = outgoing.target.clone();
        if !peer || send(shared, outgoing).is_err() {
            failed.insert(target);
        }
        next = None;
    }
    for target in failed {
        if shared
            .events
            .send(TransportEvent::Failed(target))
            .await
            .is_err()
        {
            return;
        }
    }
}

/// Why a connection ended.
enum End {
    /// The peer, or we, had nothing more to say.
    Closed,
    /// We closed it, and nothing waits for it.
    Finished,
    /// It was silent for too long.
    Idle,
    /// More waited for it than may.
    Overrun,
    Discarded(Discard, &'static str),
    Broken(io::Error),
}

/// Serves an open connection until it ends.
pub(super) async fn run<S>(stream: S, mut opened: Opened, side: Side, shared: &Arc<Shared>)
where
    S: AsyncRead + AsyncWrite + Send,
{
    let (reader, writer) = tokio::io::split(stream);
    let activity = Activity::new();
    let (pong_sender, pong_receiver) = mpsc::channel(1);
    let flow = opened.flow.clone();
    let is_ours = matches!(side, Side::Us);
    let mut finished = false;
    let keep_alive = shared.view().keep_alive(&flow).filter(|_| is_ours);
    let alias = OnceLock::new();
    let mut unsent = None;
    let end = {
        let peer = Peer {
            flow: &flow,
            names: &opened.peer_names,
            alias: &alias,
        };
        let reading = read(reader, peer, side, shared, &activity, pong_sender);
        let writing = write(
            writer,
            &mut opened.queue,
            pong_receiver,
            &opened.queued,
            &activity,
            keep_alive,
            &mut unsent,
        );
        tokio::select! {
            end = reading => end,
            end = writing => end,
            () = opened.close.notified() => End::Overrun,
        }
    };
    // Who does not read over one connection does not over another either.
    let is_slow = matches!(end, End::Overrun | End::Discarded(Discard::SlowReader, _));
    match end {
        End::Closed | End::Overrun => {
            tracing::debug!(remote = %flow.remote, "a connection was closed");
        }
        End::Finished => {
            finished = true;
            tracing::debug!(remote = %flow.remote, "a connection was closed by us");
        }
        End::Idle => tracing::debug!(remote = %flow.remote, "an idle connection was closed"),
        End::Broken(error) => {
            tracing::info!(remote = %flow.remote, transport = %flow.transport, %error, "a connection broke");
        }
        End::Discarded(reason, why) => {
            shared.discards.count(reason);
            tracing::info!(
                remote = %flow.remote, transport = %flow.transport, reason = reason.name(), why,
                "a connection was closed"
            );
        }
    }
    fail(opened, shared, unsent, !is_ours && !is_slow).await;
    let flow = match alias.get() {
        Some(remote) => Flow {
            remote: *remote,
            ..flow
        },
        None => flow,
    };
    if !finished && (is_ours || alias.get().is_some()) {
        // Without anybody who listens we are shutting down.
        let _ = shared.events.send(TransportEvent::Closed(flow)).await;
    }
}

/// When something last went over a connection, in milliseconds since it began.
struct Activity {
    start: Instant,
    any: AtomicU64,
    read: AtomicU64,
}

impl Activity {
    fn new() -> Self {
        Self {
            start: Instant::now(),
            any: AtomicU64::new(0),
            read: AtomicU64::new(0),
        }
    }

    fn elapsed(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn mark(&self) {
        self.any.store(self.elapsed(), Relaxed);
    }

    fn mark_read(&self) {
        self.read.store(self.elapsed(), Relaxed);
        self.mark();
    }

    fn last(&self) -> Instant {
        self.start + Duration::from_millis(self.any.load(Relaxed))
    }
}

/// What a connection's reader has to know of its peer.
#[derive(Clone, Copy)]
struct Peer<'c> {
    flow: &'c Flow,
    names: &'c [Arc<str>],
    /// The address that the peer has said the connection to be an alias of.
    alias: &'c OnceLock<SocketAddr>,
}

impl Peer<'_> {
    /// Takes a request with `alias` in its Via (RFC 5923 §5) for what it says: requests to the
    /// address that it names may go over its connection, since the peer's certificate was checked
    /// for the names that they would ask for.
    fn notice_alias(self, octets: &Bytes, shared: &Shared) {
        if self.names.is_empty() || self.alias.get().is_some() {
            return;
        }
        let Ok(Message::Request(request)) = parse_shared(octets, &shared.view().message_limits())
        else {
            return;
        };
        let (Ok(via), Some(id)) = (request.headers.via(), self.flow.connection) else {
            return;
        };
        if via.parameters.has("alias") {
            let port = via.port.unwrap_or(self.flow.transport.default_port());
            let remote = SocketAddr::new(self.flow.remote.ip(), port);
            let _ = self.alias.set(remote);
            shared.table().alias(id, remote, self.names);
        }
    }
}

async fn read<R: AsyncRead>(
    reader: R,
    peer: Peer<'_>,
    side: Side,
    shared: &Shared,
    activity: &Activity,
    pong: mpsc::Sender<()>,
) -> End {
    let mut reader = std::pin::pin!(reader);
    let mut framer = StreamFramer::new(shared.view().message_limits());
    let mut buffer = vec![0; READ_OCTETS];
    let mut unfinished = Some(Instant::now());
    let (mut handshake, answers) = match side {
        Side::Peer { handshake } => (Some(handshake), true),
        Side::Us => {
            unfinished = None;
            (None, false)
        }
    };
    loop {
        let idle = Duration::from_secs(shared.view().limits().idle_seconds);
        let until = unfinished.map_or_else(|| activity.last() + idle, |since| since + MESSAGE);
        let reading = timeout_at(until, reader.read(&mut buffer));
        let read = match &handshake {
            None => reading.await,
            Some(place) => tokio::select! {
                read = reading => read,
                () = place.lost() => {
                    return End::Discarded(Discard::Handshakes, "its place went to another one");
                }
            },
        };
        let length = match read {
            Ok(Ok(0)) if framer.pending() == 0 => return End::Closed,
            Ok(Ok(0)) => {
                return End::Discarded(Discard::Unfinished, "it ended within a message");
            }
            Ok(Ok(length)) => length,
            // What rustls calls records that are none.
            Ok(Err(error)) if error.kind() == io::ErrorKind::InvalidData => {
                return End::Discarded(Discard::Malformed, "what came is not TLS");
            }
            Ok(Err(_)) if framer.pending() > 0 => {
                return End::Discarded(Discard::Unfinished, "it broke within a message");
            }
            Ok(Err(error)) => return End::Broken(error),
            Err(_) if unfinished.is_some() => {
                return End::Discarded(Discard::Unfinished, "no whole message came in time");
            }
            // Something was sent meanwhile.
            Err(_) if activity.last() + idle > Instant::now() => continue,
            Err(_) => return End::Idle,
        };
        activity.mark_read();
        framer.push(buffer.get(..length).unwrap_or_default());
        loop {
            match framer.next_frame() {
                Ok(Some(Frame::Message(octets))) => {
                    // The first message says whether the connection is an alias.
                    if handshake.take().is_some() {
                        peer.notice_alias(&octets, shared);
                    }
                    unfinished = None;
                    let event = TransportEvent::Message {
                        flow: peer.flow.clone(),
                        octets,
                    };
                    // Waits while the queue is full; then the peer's own sending slows down.
                    if shared.events.send(event).await.is_err() {
                        return End::Closed;
                    }
                }
                Ok(Some(Frame::Ping)) if answers => {
                    // One answer is enough for all that came together.
                    let _ = pong.try_send(());
                }
                Ok(Some(Frame::Ping | Frame::Pong)) => {}
                Ok(None) => break,
                Err(rejection) => {
                    let reason = match rejection.error {
                        SipError::MessageTooLarge { .. } | SipError::BodyTooLarge { .. } => {
                            Discard::Oversized
                        }
                        _ => Discard::Malformed,
                    };
                    return End::Discarded(reason, rejection.error.name());
                }
            }
        }
        if framer.pending() == 0 {
            if handshake.is_none() {
                unfinished = None;
            }
        } else if unfinished.is_none() {
            unfinished = Some(Instant::now());
        }
    }
}

/// Ends at a time; never when there is none.
async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

async fn write<W: AsyncWrite>(
    writer: W,
    queue: &mut mpsc::UnboundedReceiver<Outgoing>,
    mut pong: mpsc::Receiver<()>,
    queued: &AtomicUsize,
    activity: &Activity,
    keep_alive: Option<Duration>,
    unsent: &mut Option<Outgoing>,
) -> End {
    let mut writer = std::pin::pin!(writer);
    // When the peer was asked whether it is there, by the clock and as `Activity` counts.
    let mut asked: Option<(Instant, u64)> = None;
    loop {
        if asked.is_some_and(|(_, at)| activity.read.load(Relaxed) >= at) {
            asked = None;
        }
        let due = keep_alive.map(|interval| match asked {
            None => activity.last() + interval,
            // Looked at when the next question would come, and when the answer is late.
            Some((at, _)) if Instant::now() < at + interval => at + interval.min(PONG),
            Some((at, _)) => at + PONG,
        });
        let (outgoing, octets) = tokio::select! {
            biased;
            outgoing = queue.recv() => match outgoing {
                Some(outgoing) => {
                    let octets = outgoing.octets.clone();
                    (Some(outgoing), octets)
                }
                // The table has forgotten this connection.
                None => {
                    let _ = timeout(WRITE, writer.shutdown()).await;
                    return End::Finished;
                }
            },
            Some(()) = pong.recv() => (None, Bytes::from_static(b"\r\n")),
            () = at(due) => {
                let now = Instant::now();
                match asked {
                    Some((_, at)) if activity.read.load(Relaxed) >= at => continue,
                    Some((at, _)) if now < at + PONG => continue,
                    Some(_) => return End::Discarded(Discard::KeepAlive, "nothing came back"),
                    // Something went over it meanwhile.
                    None if keep_alive.is_some_and(|it| activity.last() + it > now) => continue,
                    None => {}
                }
                asked = Some((Instant::now(), activity.elapsed()));
                (None, Bytes::from_static(b"\r\n\r\n"))
            }
        };
        let waiting = outgoing.is_some();
        *unsent = outgoing;
        let writing = async {
            writer.write_all(&octets).await?;
            writer.flush().await
        };
        match timeout(WRITE, writing).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return End::Broken(error),
            Err(_) => {
                return End::Discarded(Discard::SlowReader, "the peer reads nothing");
            }
        }
        *unsent = None;
        if waiting {
            queued.fetch_sub(octets.len(), Relaxed);
        }
        activity.mark();
    }
}
