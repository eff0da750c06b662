//! The edges over loopback, each against sockets of the test's own.

mod tls;

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream, UdpSocket},
    sync::mpsc,
    time::timeout,
};

use super::{connection::Side, table::Route, *};
use crate::{config, sip::Target};

const OPTIONS: &[u8] =
    b"OPTIONS sip:a@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/TCP 127.0.0.2;branch=z9hG4bK1\r\n\
    From: <sip:b@127.0.0.2>;tag=1\r\nTo: <sip:a@127.0.0.1>\r\nCall-ID: 1\r\nCSeq: 1 OPTIONS\r\n\
    Content-Length: 0\r\n\r\n";

fn trunk(name: &str, transport: &str, listen: SocketAddr, peer: &str, more: &str) -> String {
    format!(
        "[[trunk]]\nname = \"{name}\"\ninterface = \"lo\"\ntransport = \"{transport}\"\n\
         listen = \"{listen}\"\naddresses = [\"{peer}\"]\nallowed_sources = [\"127.0.0.2/32\"]\n{more}\n"
    )
}

fn settings(limits: &str, trunks: &str) -> Arc<Settings> {
    let text = format!(
        "[media]\nports = \"60000-60009\"\n[limits]\n{limits}\n\
         [[interface]]\nname = \"lo\"\naddresses = [\"127.0.0.1\"]\n{trunks}"
    );
    Arc::new(config::parse(&text, Path::new("test.toml")).unwrap())
}

fn start(settings: &Arc<Settings>) -> (Transports, mpsc::Receiver<TransportEvent>) {
    let (sender, receiver) = mpsc::channel(QUEUE);
    (Transports::start(settings, sender).unwrap(), receiver)
}

fn tcp(local: SocketAddr, remote: SocketAddr) -> Target {
    Target {
        transport: Transport::Tcp,
        ..Target::udp(local, remote)
    }
}

/// For what should happen at once; a failure, not a measure.
const LIMIT: Duration = Duration::from_secs(30);

async fn within<T>(what: impl Future<Output = T>) -> T {
    timeout(LIMIT, what).await.expect("it happens in time")
}

async fn until(is: impl Fn() -> bool) {
    within(async {
        while !is() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

async fn event(events: &mut mpsc::Receiver<TransportEvent>) -> TransportEvent {
    within(events.recv()).await.unwrap()
}

async fn message(events: &mut mpsc::Receiver<TransportEvent>) -> (Flow, Bytes) {
    match event(events).await {
        TransportEvent::Message { flow, octets } => (flow, octets),
        other => panic!("{other:?}"),
    }
}

async fn connect_from(ip: &str, to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket
        .bind(SocketAddr::new(ip.parse().unwrap(), 0))
        .unwrap();
    socket.connect(to).await.unwrap()
}

/// Reads until the peer closes.
async fn closed(stream: &mut (impl AsyncRead + Unpin)) {
    let mut buffer = [0; 4096];
    while within(stream.read(&mut buffer))
        .await
        .is_ok_and(|length| length > 0)
    {}
}

#[tokio::test]
async fn datagrams_come_and_go_and_what_is_refused_is_counted() {
    let listen = free_port("127.0.0.1");
    let settings = settings(
        "message_octets = 1500",
        &trunk("a", "udp", listen, "127.0.0.2:5060", ""),
    );
    let (transports, mut events) = start(&settings);
    let peer = UdpSocket::bind("127.0.0.2:0").await.unwrap();
    let stranger = UdpSocket::bind("127.0.0.3:0").await.unwrap();

    stranger.send_to(OPTIONS, listen).await.unwrap();
    peer.send_to(b"\r\n\r\n", listen).await.unwrap();
    peer.send_to(&[b'x'; 1501], listen).await.unwrap();
    stranger
        .send_to(b"SIP/2.0 200 OK\r\n\r\n", listen)
        .await
        .unwrap();
    peer.send_to(OPTIONS, listen).await.unwrap();

    let (flow, _) = message(&mut events).await;
    assert_eq!(flow.remote, stranger.local_addr().unwrap(), "an answer");
    let (flow, octets) = message(&mut events).await;
    assert_eq!(flow, Target::udp(listen, peer.local_addr().unwrap()));
    assert_eq!(octets, OPTIONS);
    let discards = transports.discards();
    let counted: Vec<_> = discards.iter().filter(|(_, count)| *count > 0).collect();
    assert_eq!(
        counted,
        [(Discard::Oversized, 1), (Discard::ForeignSource, 1)]
    );

    transports
        .send(&flow, Bytes::from_static(b"answer"))
        .unwrap();
    let mut buffer = [0; 100];
    let (length, from) = peer.recv_from(&mut buffer).await.unwrap();
    assert_eq!((&buffer[..length], from), (&b"answer"[..], listen));
    let elsewhere = Target::udp(free_port("127.0.0.1"), flow.remote);
    assert_eq!(
        transports.send(&elsewhere, Bytes::new()),
        Err(SendError::NoListener)
    );
}

#[tokio::test]
async fn a_full_queue_drops_datagrams_and_counts_them() {
    let listen = free_port("127.0.0.1");
    let settings = settings("", &trunk("a", "udp", listen, "127.0.0.2:5060", ""));
    let (sender, mut events) = mpsc::channel(2);
    let transports = Transports::start(&settings, sender).unwrap();
    let peer = UdpSocket::bind("127.0.0.2:0").await.unwrap();
    for _ in 0..10 {
        peer.send_to(OPTIONS, listen).await.unwrap();
    }
    let discards = transports.discards();
    until(|| discards.get(Discard::Overload) >= 8).await;
    for _ in 0..2 {
        assert_eq!(message(&mut events).await.1, OPTIONS);
    }
    assert!(events.try_recv().is_err());
    peer.send_to(OPTIONS, listen).await.unwrap();
    assert_eq!(message(&mut events).await.1, OPTIONS, "it still listens");
}

#[tokio::test]
async fn a_stream_is_cut_into_messages_and_answered_on_its_connection() {
    let listen = free_port("127.0.0.1");
    let settings = settings("", &trunk("a", "tcp", listen, "127.0.0.2:5060", ""));
    let (transports, mut events) = start(&settings);
    let mut peer = connect_from("127.0.0.2", listen).await;
    let (head, tail) = OPTIONS.split_at(40);
    peer.write_all(head).await.unwrap();
    peer.write_all(&[tail, OPTIONS].concat()).await.unwrap();
    let (flow, octets) = message(&mut events).await;
    assert_eq!(octets, OPTIONS);
    assert_eq!(message(&mut events).await, (flow.clone(), octets));
    assert_eq!(flow.local, listen);
    assert_eq!(flow.remote, peer.local_addr().unwrap());

    peer.write_all(b"\r\n\r\n").await.unwrap();
    let mut buffer = [0; 2];
    peer.read_exact(&mut buffer).await.unwrap();
    assert_eq!(&buffer, b"\r\n", "the answer to a ping");
    transports
        .send(&flow, Bytes::from_static(b"answer"))
        .unwrap();
    let mut buffer = [0; 6];
    peer.read_exact(&mut buffer).await.unwrap();
    assert_eq!(&buffer, b"answer");

    peer.write_all(b"no SIP at all\r\n\r\n").await.unwrap();
    closed(&mut peer).await;
    assert_eq!(transports.discards().get(Discard::Malformed), 1);
}

#[tokio::test]
async fn a_message_may_be_as_long_as_the_configuration_says_whatever_part_of_it_is_body() {
    let listen = free_port("127.0.0.1");
    let settings = settings(
        "message_octets = 200000",
        &trunk("a", "tcp", listen, "127.0.0.2:5060", ""),
    );
    let (transports, mut events) = start(&settings);
    let mut peer = connect_from("127.0.0.2", listen).await;
    let long = |octets: usize| {
        let head = String::from_utf8_lossy(OPTIONS);
        let head = head.replace("Length: 0", &format!("Length: {octets}"));
        [head.as_bytes(), &vec![b'x'; octets]].concat()
    };
    peer.write_all(&long(150_000)).await.unwrap();
    assert_eq!(message(&mut events).await.1, long(150_000));
    let longer = long(200_000);
    peer.write_all(&longer[..OPTIONS.len() + 8]).await.unwrap();
    closed(&mut peer).await;
    assert_eq!(transports.discards().get(Discard::Oversized), 1);
}

#[tokio::test]
async fn an_answer_does_not_wait_until_the_one_before_it_is_acknowledged() {
    let listen = free_port("127.0.0.1");
    let settings = settings("", &trunk("a", "tcp", listen, "127.0.0.2:5060", ""));
    let (transports, mut events) = start(&settings);
    let mut open = async || {
        let mut peer = connect_from("127.0.0.2", listen).await;
        peer.write_all(OPTIONS).await.unwrap();
        (peer, message(&mut events).await.0)
    };
    let (peer, flow) = open().await;
    let (mut other, to_other) = open().await;
    // As every peer that has nothing to say for the moment.
    SockRef::from(&peer).set_tcp_quickack(false).unwrap();
    for (flow, answer) in [(&flow, "trying "), (&flow, "ringing"), (&to_other, "last")] {
        transports
            .send(flow, Bytes::from_static(answer.as_bytes()))
            .unwrap();
    }
    let mut buffer = [0; 4];
    other.read_exact(&mut buffer).await.unwrap();
    let mut buffer = [0; 20];
    peer.readable().await.unwrap();
    let length = peer.try_read(&mut buffer).unwrap();
    assert_eq!(&buffer[..length], b"trying ringing");
}

#[tokio::test]
async fn a_message_that_its_peer_does_not_finish_is_counted() {
    let listen = free_port("127.0.0.1");
    let settings = settings("", &trunk("a", "tcp", listen, "127.0.0.2:5060", ""));
    let (transports, mut events) = start(&settings);
    let discards = transports.discards();
    let mut peer = connect_from("127.0.0.2", listen).await;
    peer.write_all(&[OPTIONS, &OPTIONS[..40]].concat())
        .await
        .unwrap();
    message(&mut events).await;
    peer.shutdown().await.unwrap();
    closed(&mut peer).await;
    assert_eq!(discards.get(Discard::Unfinished), 1);

    let mut peer = connect_from("127.0.0.2", listen).await;
    peer.write_all(OPTIONS).await.unwrap();
    message(&mut events).await;
    peer.shutdown().await.unwrap();
    closed(&mut peer).await;
    assert_eq!(discards.iter().map(|(_, count)| count).sum::<u64>(), 1);
}

#[tokio::test]
async fn strangers_and_connections_beyond_the_limits_are_closed() {
    let listen = free_port("127.0.0.1");
    let settings = settings(
        "connections = 2\nhandshakes = 1",
        &trunk("a", "tcp", listen, "127.0.0.2:5060", ""),
    );
    let (transports, mut events) = start(&Arc::new(settings.with_lookups(|_| Vec::new())));
    let discards = transports.discards();
    closed(&mut connect_from("127.0.0.3", listen).await).await;
    assert_eq!(discards.get(Discard::ForeignSource), 1);

    let mut silent = connect_from("127.0.0.2", listen).await;
    let mut one = connect_from("127.0.0.2", listen).await;
    closed(&mut silent).await;
    assert_eq!(discards.get(Discard::Handshakes), 1);
    one.write_all(OPTIONS).await.unwrap();
    message(&mut events).await;

    let mut two = connect_from("127.0.0.2", listen).await;
    two.write_all(OPTIONS).await.unwrap();
    message(&mut events).await;
    closed(&mut connect_from("127.0.0.2", listen).await).await;
    assert_eq!(discards.get(Discard::Connections), 1);
    assert_eq!(transports.connections(), 2);
}

#[tokio::test]
async fn a_host_that_takes_all_it_may_keeps_neither_others_nor_a_trunk_s_peer_out() {
    let listen = free_port("127.0.0.1");
    let trunk = trunk("a", "tcp", listen, "127.0.0.2:5060", "");
    let settings = settings(
        "connections = 10",
        &trunk.replace("127.0.0.2/32", "127.0.0.0/8"),
    );
    let (transports, mut events) = start(&Arc::new(settings.with_lookups(|_| Vec::new())));
    let discards = transports.discards();
    let mut held = Vec::new();
    let mut serve = async |host| {
        let mut stream = connect_from(host, listen).await;
        stream.write_all(OPTIONS).await.unwrap();
        message(&mut events).await;
        held.push(stream);
    };
    for _ in 0..5 {
        serve("127.0.0.3").await;
    }
    closed(&mut connect_from("127.0.0.3", listen).await).await;
    assert_eq!(discards.get(Discard::ConnectionsOfHost), 1);
    for _ in 0..4 {
        serve("127.0.0.4").await;
    }
    closed(&mut connect_from("127.0.0.5", listen).await).await;
    assert_eq!(discards.get(Discard::Connections), 1);
    serve("127.0.0.2").await;
    assert_eq!(transports.connections(), 10);
}

/// In simulated time, and so over a connection in memory: what is on its way in a kernel would not
/// hold the clock.
#[tokio::test(start_paused = true)]
async fn a_silent_peer_is_asked_and_its_connection_closed() {
    let (listen, remote) = (
        free_port("127.0.0.1"),
        SocketAddr::from(([127, 0, 0, 2], 5060)),
    );
    let asks = "keep_alive_seconds = 1";
    let settings = settings("", &trunk("a", "tcp", listen, &remote.to_string(), asks));
    let (transports, mut events) = start(&Arc::new(settings.with_lookups(|_| Vec::new())));
    let target = tcp(listen, remote);
    let shared = Arc::clone(&transports.shared);
    let (ours, mut peer) = tokio::io::duplex(1024);
    let route = Route::to(&target, None);
    let opened = connection::register(&shared, target.clone(), Some(route));
    tokio::spawn(async move { connection::run(ours, opened, Side::Us, &shared).await });
    transports
        .send(&target, Bytes::from_static(OPTIONS))
        .unwrap();
    let mut buffer = vec![0; OPTIONS.len()];
    peer.read_exact(&mut buffer).await.unwrap();
    let mut ping = [0; 4];
    for _ in 0..2 {
        peer.read_exact(&mut ping).await.unwrap();
        assert_eq!(&ping, b"\r\n\r\n");
        peer.write_all(b"\r\n").await.unwrap();
    }
    // The third one is not answered.
    closed(&mut peer).await;
    match event(&mut events).await {
        TransportEvent::Closed(flow) => assert_eq!(flow.remote, remote),
        other => panic!("{other:?}"),
    }
    assert_eq!(transports.discards().get(Discard::KeepAlive), 1);
}

#[tokio::test]
async fn one_connection_serves_all_requests_to_a_peer() {
    let server = TcpListener::bind("127.0.0.2:0").await.unwrap();
    let remote = server.local_addr().unwrap();
    let listen = free_port("127.0.0.1");
    let settings = settings("", &trunk("a", "tcp", listen, &remote.to_string(), ""));
    let (transports, mut events) = start(&settings);
    let target = tcp(listen, remote);
    for _ in 0..3 {
        transports
            .send(&target, Bytes::from_static(OPTIONS))
            .unwrap();
    }
    let (mut peer, from) = server.accept().await.unwrap();
    assert_eq!(from.ip(), listen.ip());
    let mut buffer = vec![0; OPTIONS.len() * 3];
    peer.read_exact(&mut buffer).await.unwrap();
    assert_eq!(buffer, OPTIONS.repeat(3));

    peer.write_all(OPTIONS).await.unwrap();
    let (flow, _) = message(&mut events).await;
    assert_eq!((flow.local, flow.remote), (listen, remote));
    drop(peer);
    drop(server);
    // The connection goes, and a new one cannot be opened.
    until(|| transports.connections() == 0).await;
    match event(&mut events).await {
        TransportEvent::Closed(closed) => assert_eq!(closed, flow),
        other => panic!("{other:?}"),
    }
    transports
        .send(&target, Bytes::from_static(OPTIONS))
        .unwrap();
    match event(&mut events).await {
        TransportEvent::Failed(failed) => assert_eq!(failed, target),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_peer_that_does_not_read_is_closed_and_counted() {
    let server = TcpListener::bind("127.0.0.2:0").await.unwrap();
    let listen = free_port("127.0.0.1");
    let remote = server.local_addr().unwrap();
    let settings = settings(
        "write_octets = 65536",
        &trunk("a", "tcp", listen, &remote.to_string(), ""),
    );
    let (transports, mut events) = start(&settings);
    let target = tcp(listen, remote);
    transports
        .send(&target, Bytes::from_static(b"first"))
        .unwrap();
    let (_peer, _) = server.accept().await.unwrap();
    let large = Bytes::from(vec![b'x'; 60_000]);
    let mut sent = 0;
    let refused = loop {
        match transports.send(&target, large.clone()) {
            Ok(()) => sent += 1,
            Err(error) => break error,
        }
        assert!(sent < 1_000, "no bound on what waits");
        tokio::task::yield_now().await;
    };
    assert_eq!(refused, SendError::SlowReader);
    assert_eq!(transports.discards().get(Discard::SlowReader), 1);
    match event(&mut events).await {
        TransportEvent::Failed(failed) => assert_eq!(failed, target),
        other => panic!("{other:?}"),
    }
    assert_eq!(transports.connections(), 0);
}

#[tokio::test]
async fn a_reload_opens_and_closes_listeners_or_changes_nothing() {
    let (one, two) = (free_port("127.0.0.1"), free_port("127.0.0.1"));
    let peer = "127.0.0.2:5060";
    let first = settings("", &trunk("a", "udp", one, peer, ""));
    let second = settings("", &trunk("b", "udp", two, peer, ""));
    let (transports, mut events) = start(&first);
    let socket = UdpSocket::bind("127.0.0.2:0").await.unwrap();

    let taken = std::net::UdpSocket::bind(two).unwrap();
    let error = transports.reload(&second).unwrap_err().to_string();
    assert_eq!(
        error,
        format!(
            "cannot listen on {two} over udp (Address already in use (os error 98)): \
             end the other program that listens there, or choose another port"
        )
    );
    socket.send_to(OPTIONS, one).await.unwrap();
    assert_eq!(message(&mut events).await.0.local, one);

    drop(taken);
    transports.reload(&second).unwrap();
    socket.send_to(OPTIONS, two).await.unwrap();
    assert_eq!(message(&mut events).await.0.local, two);
    // As a call does that began with them.
    socket.send_to(OPTIONS, one).await.unwrap();
    assert_eq!(message(&mut events).await.0.local, one);
    drop(first);
    assert_eq!(transports.close_listeners(), 0);
    let target = Target::udp(one, socket.local_addr().unwrap());
    assert_eq!(
        transports.send(&target, Bytes::new()),
        Err(SendError::NoListener)
    );
}

#[tokio::test]
async fn a_host_is_listened_to_while_a_call_has_the_settings_that_name_it() {
    let listen = free_port("127.0.0.1");
    let named = |peer: &str| {
        let trunk = trunk("a", "udp", listen, peer, "");
        let trunk = trunk.replace("allowed_sources = [\"127.0.0.2/32\"]", "");
        Arc::new(settings("", &trunk).with_lookups(|_| Vec::new()))
    };
    let (first, second) = (named("127.0.0.2:5060"), named("127.0.0.3:5060"));
    let (transports, mut events) = start(&first);
    let [old, new] = ["127.0.0.2:0", "127.0.0.3:0"];
    let old = UdpSocket::bind(old).await.unwrap();
    let new = UdpSocket::bind(new).await.unwrap();
    for begun in [Some(first), None] {
        transports.update_destinations(&second);
        old.send_to(OPTIONS, listen).await.unwrap();
        new.send_to(OPTIONS, listen).await.unwrap();
        if begun.is_some() {
            let (flow, _) = message(&mut events).await;
            assert_eq!(flow.remote, old.local_addr().unwrap());
        }
        let (flow, _) = message(&mut events).await;
        assert_eq!(flow.remote, new.local_addr().unwrap());
    }
    assert_eq!(transports.discards().get(Discard::ForeignSource), 1);
}

#[tokio::test]
async fn ipv6_is_served_by_datagram_and_by_stream() {
    let listen = free_port("::1");
    let trunks = (trunk("a", "udp", listen, "[::1]:5060", "")
        + &trunk("b", "tcp", listen, "[::1]:5060", ""))
        .replace("127.0.0.2/32", "::1/128");
    let (transports, mut events) = start(&settings("", &trunks));
    let peer = UdpSocket::bind("[::1]:0").await.unwrap();
    peer.send_to(OPTIONS, listen).await.unwrap();
    let (flow, _) = message(&mut events).await;
    assert_eq!(
        (flow.local, flow.remote),
        (listen, peer.local_addr().unwrap())
    );
    transports
        .send(&flow, Bytes::from_static(b"answer"))
        .unwrap();
    let mut buffer = [0; 6];
    peer.recv(&mut buffer).await.unwrap();
    assert_eq!(&buffer, b"answer");

    let mut stream = TcpStream::connect(listen).await.unwrap();
    stream.write_all(OPTIONS).await.unwrap();
    let (flow, _) = message(&mut events).await;
    assert_eq!(flow.remote, stream.local_addr().unwrap());
    transports
        .send(&flow, Bytes::from_static(b"answer"))
        .unwrap();
    stream.read_exact(&mut buffer).await.unwrap();
    assert_eq!(&buffer, b"answer");
}
