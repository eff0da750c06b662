//! The daemon over loopback, with a media plane in memory.

use std::{cell::RefCell, collections::HashSet, fs, path::Path};

use relay_user::media::MemoryMedia;
use tokio::net::UdpSocket;

use super::{testing::Nothing, *};
use crate::{config, transport::free_port};

struct File(PathBuf);

impl File {
    fn new(name: &str, text: &str) -> Self {
        let path =
            std::env::temp_dir().join(format!("trunkline-daemon-{name}-{}", std::process::id()));
        fs::write(&path, text).unwrap();
        Self(path)
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn free() -> u16 {
    free_port("127.0.0.1").port()
}

fn text(port: u16, more: &str) -> String {
    format!(
        "[media]\nports = \"60000-60009\"\n[[interface]]\nname = \"lo\"\naddresses = [\"127.0.0.1\"]\n\
         [[trunk]]\nname = \"a\"\ninterface = \"lo\"\ntransport = \"udp\"\nlisten = \"127.0.0.1:{port}\"\n\
         addresses = [\"127.0.0.1:9\"]\n[[route]]\ntrunk = \"a\"\n{more}"
    )
}

fn start(file: &File) -> (Daemon<MemoryMedia>, Handle, mpsc::Sender<Command>) {
    let settings = config::load(file.path()).unwrap();
    let media = MemoryMedia::new(
        config::relay_config(&settings, None).interfaces,
        settings.media.ports.range(),
    );
    let (sender, commands) = mpsc::channel(8);
    let (daemon, handle) = Daemon::start(
        settings,
        file.path().to_owned(),
        media,
        Arc::new(Nothing),
        commands,
        Box::new(|_| {}),
        [7; 32],
    )
    .unwrap();
    (daemon, handle, sender)
}

#[tokio::test]
async fn it_becomes_ready_and_ends_when_told() {
    let file = File::new("ready", &text(free(), ""));
    let (daemon, mut handle, commands) = start(&file);
    assert_eq!(handle.phase(), Phase::Starting);
    let running = tokio::spawn(daemon.run());
    handle
        .phase
        .wait_for(|phase| *phase == Phase::Ready)
        .await
        .unwrap();
    assert_eq!(handle.calls().await.unwrap(), []);
    commands.send(Command::Terminate).await.unwrap();
    running.await.unwrap();
    assert_eq!(handle.phase(), Phase::Draining);
    assert!(handle.calls().await.is_none(), "nobody is left to ask");
}

#[tokio::test]
async fn a_reload_takes_over_what_can_change() {
    let (one, two) = (free(), free());
    let file = File::new("reload", &text(one, ""));
    let (daemon, mut handle, commands) = start(&file);
    let running = tokio::spawn(daemon.run());
    handle
        .phase
        .wait_for(|phase| *phase == Phase::Ready)
        .await
        .unwrap();
    fs::write(
        file.path(),
        text(two, "[limits]\ncalls = 5\nhandshakes = 7\n").replace("60009", "60019"),
    )
    .unwrap();
    commands.send(Command::Reload).await.unwrap();
    let new = handle
        .settings
        .wait_for(|settings| settings.limits.calls == 5)
        .await
        .unwrap()
        .clone();
    assert_eq!(new.trunks[0].listen.port(), two);
    assert_eq!(
        new.media.ports.to_string(),
        "60000-60009",
        "needs a restart"
    );
    assert_eq!(new.limits.handshakes, 100, "needs a restart");
    // The old port is free, the new one is taken.
    UdpSocket::bind(("127.0.0.1", one)).await.unwrap();
    UdpSocket::bind(("127.0.0.1", two)).await.unwrap_err();
    commands.send(Command::Terminate).await.unwrap();
    running.await.unwrap();
}

#[tokio::test]
async fn a_wrong_reload_changes_nothing() {
    let port = free();
    let file = File::new("wrong", &text(port, ""));
    let (mut daemon, ..) = start(&file);
    let before = Arc::clone(&daemon.settings);
    let taken = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    for wrong in [
        text(port, "surprise = 1\n"),
        text(taken.local_addr().unwrap().port(), ""),
        text(port, "").replace("\"lo\"", "\"other\""),
        // An address that the media plane was not started with.
        text(port, "")
            .replace("[\"127.0.0.1\"]", "[\"127.0.0.1\", \"127.0.0.2\"]")
            .replace(
                "interface = ",
                "external_address = \"127.0.0.2\"\ninterface = ",
            ),
    ] {
        fs::write(file.path(), &wrong).unwrap();
        daemon.reloaded(reload::read(file.path().to_owned(), Lookups::default()).await);
        assert!(Arc::ptr_eq(&before, &daemon.settings), "{wrong}");
    }
    fs::write(file.path(), text(port, "[limits]\ncalls = 5\n")).unwrap();
    daemon.reloaded(reload::read(file.path().to_owned(), Lookups::default()).await);
    assert_eq!(daemon.settings.limits.calls, 5);
}

/// What is logged, as text.
#[derive(Clone, Default)]
struct Logged(Arc<std::sync::Mutex<Vec<u8>>>);

impl std::io::Write for Logged {
    fn write(&mut self, octets: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend(octets);
        Ok(octets.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn addresses_are_logged_when_they_are_new_and_no_more() {
    let file = File::new("addresses", &text(free(), ""));
    let (mut daemon, ..) = start(&file);
    let logged = Logged::default();
    let writer = logged.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_writer(move || writer.clone())
        .finish();
    tracing::subscriber::with_default(subscriber, || {
        daemon.use_lookups(Lookups::default());
        daemon.phase.send_replace(Phase::Ready);
        // Another trunk's name has other addresses now.
        daemon.use_lookups(Lookups::default());
    });
    let logged = String::from_utf8(logged.0.lock().unwrap().clone()).unwrap();
    assert_eq!(logged.matches("127.0.0.1:9").count(), 1, "{logged}");
}

/// A SIP phone on a socket, as plain as can be.
struct Phone {
    socket: UdpSocket,
    sbc: std::net::SocketAddr,
    /// What has come.
    known: RefCell<HashSet<String>>,
}

const SDP: &str = "v=0\r\no=- 1 1 IN IP4 127.0.0.9\r\ns=-\r\nc=IN IP4 127.0.0.9\r\nt=0 0\r\n\
    m=audio 40000 RTP/AVP 0\r\n";

impl Phone {
    async fn new(ip: &str, sbc: u16) -> Self {
        Self {
            socket: UdpSocket::bind((ip, 0)).await.unwrap(),
            sbc: ([127, 0, 0, 1], sbc).into(),
            known: RefCell::default(),
        }
    }

    fn address(&self) -> std::net::SocketAddr {
        self.socket.local_addr().unwrap()
    }

    async fn send(&self, message: &str) {
        self.socket
            .send_to(message.as_bytes(), self.sbc)
            .await
            .unwrap();
    }

    /// The next message that is not sent again and not 100.
    async fn receive(&self, begins: &str) -> String {
        let mut buffer = [0; 8192];
        loop {
            let length = self.socket.recv(&mut buffer).await.unwrap();
            let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
            // Whoever had to wait half a second for an answer says it again.
            if !self.known.borrow_mut().insert(text.clone()) {
                continue;
            }
            if text.starts_with(begins) {
                return text;
            }
            assert!(text.starts_with("SIP/2.0 100"), "{begins} expected: {text}");
        }
    }

    fn request(&self, method: &str, to: &str, call: &str, sequence: u32, body: &str) -> String {
        let us = self.address();
        let tag = if to.contains("tag=") { "" } else { "new" };
        format!(
            "{method} sip:5551234@{sbc} SIP/2.0\r\n\
             Via: SIP/2.0/UDP {us};branch=z9hG4bK{method}{sequence}{call}{tag}\r\n\
             Max-Forwards: 70\r\nFrom: <sip:caller@{us}>;tag=from{call}\r\nTo: {to}\r\n\
             Call-ID: {call}\r\nCSeq: {sequence} {method}\r\nContact: <sip:caller@{us}>\r\n{body}",
            sbc = self.sbc
        )
    }

    async fn answer(&self, request: &str, status: &str, body: &str) {
        let us = self.address();
        let mut text = format!("SIP/2.0 {status}\r\n");
        for line in request.split("\r\n").take_while(|line| !line.is_empty()) {
            for name in ["Via:", "From:", "Call-ID:", "CSeq:"] {
                if line.starts_with(name) {
                    text += &format!("{line}\r\n");
                }
            }
            if line.starts_with("To:") {
                let tag = if line.contains("tag=") {
                    ""
                } else {
                    ";tag=callee"
                };
                text += &format!("{line}{tag}\r\n");
            }
        }
        self.send(&format!("{text}Contact: <sip:callee@{us}>\r\n{body}"))
            .await;
    }
}

fn with_sdp() -> String {
    format!(
        "Content-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{SDP}",
        SDP.len()
    )
}

const EMPTY: &str = "Content-Length: 0\r\n\r\n";

fn header<'m>(message: &'m str, name: &str) -> &'m str {
    message
        .split("\r\n")
        .find_map(|line| line.strip_prefix(name))
        .unwrap_or_else(|| panic!("no {name} in {message}"))
        .trim()
}

/// A daemon between two phones with a call between them.
struct Call {
    caller: Phone,
    callee: Phone,
    /// The caller's To, with the daemon's tag.
    to: String,
    handle: Handle,
    commands: mpsc::Sender<Command>,
    running: JoinHandle<()>,
    file: File,
}

impl Call {
    async fn new(name: &str, more: &str) -> Self {
        let port = free();
        let caller = Phone::new("127.0.0.2", port).await;
        let callee = Phone::new("127.0.0.3", port).await;
        let trunk = |name: &str, peer: &str| {
            format!(
                "[[trunk]]\nname = \"{name}\"\ninterface = \"lo\"\ntransport = \"udp\"\n\
                 listen = \"127.0.0.1:{port}\"\n{peer}\n"
            )
        };
        let file = File::new(
            name,
            &format!(
                "[media]\nports = \"60000-60009\"\n[[interface]]\nname = \"lo\"\n\
                 addresses = [\"127.0.0.1\"]\n{}{}[[route]]\ntrunk = \"b\"\n{more}",
                trunk("a", "allowed_sources = [\"127.0.0.2/32\"]"),
                trunk("b", &format!("addresses = [\"{}\"]", callee.address())),
            ),
        );
        let (daemon, handle, commands) = start(&file);
        let running = tokio::spawn(daemon.run());

        let to = "<sip:5551234@127.0.0.1>";
        let invite = caller.request("INVITE", to, "one", 1, &with_sdp());
        caller.send(&invite).await;
        let invite = callee.receive("INVITE ").await;
        assert!(!invite.contains("127.0.0.2"), "topology shows: {invite}");
        callee.answer(&invite, "200 OK", &with_sdp()).await;
        let answered = caller.receive("SIP/2.0 200").await;
        let to = header(&answered, "To:").to_owned();
        let ack = caller.request("ACK", &to, "one", 1, EMPTY);
        caller.send(&ack).await;
        callee.receive("ACK ").await;
        // The callee's ACK does not wait for the caller's; an answer to what came after it does.
        let options = caller.request("OPTIONS", "<sip:127.0.0.1>", "options", 1, EMPTY);
        caller.send(&options).await;
        caller.receive("SIP/2.0 200").await;
        Self {
            caller,
            callee,
            to,
            handle,
            commands,
            running,
            file,
        }
    }

    /// How the callee hangs up.
    fn bye_of_callee(&self) -> String {
        let mut known = self.callee.known.take().into_iter();
        let invite = known.find(|known| known.starts_with("INVITE ")).unwrap();
        format!(
            "BYE sip:127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP {us};branch=z9hG4bKbye\r\n\
             From: {from};tag=callee\r\nTo: {to}\r\nCall-ID: {id}\r\nCSeq: 1 BYE\r\n{EMPTY}",
            us = self.callee.address(),
            from = header(&invite, "To:"),
            to = header(&invite, "From:"),
            id = header(&invite, "Call-ID:"),
        )
    }

    /// Reads its file with something in it replaced.
    async fn reload(&mut self, old: &str, new: &str) {
        let before = fs::read_to_string(self.file.path()).unwrap();
        let after = before.replace(old, new) + "[limits]\ncalls = 5\n";
        fs::write(self.file.path(), after).unwrap();
        self.commands.send(Command::Reload).await.unwrap();
        self.handle
            .settings
            .wait_for(|settings| settings.limits.calls == 5)
            .await
            .unwrap();
    }

    async fn terminate(&mut self) {
        self.commands.send(Command::Terminate).await.unwrap();
        self.handle
            .phase
            .wait_for(|phase| *phase == Phase::Draining)
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn draining_refuses_new_calls_and_ends_with_the_last() {
    let mut call = Call::new("drain", "").await;
    let calls = call.handle.calls().await.unwrap();
    assert_eq!(calls.len(), 1);
    assert_eq!(calls[0].state.name(), "established");
    assert_eq!(calls[0].legs[1].remote, call.callee.address());

    call.terminate().await;
    let caller = &call.caller;
    let invite = caller.request("INVITE", "<sip:5551234@127.0.0.1>", "two", 1, &with_sdp());
    caller.send(&invite).await;
    let refused = caller.receive("SIP/2.0 503").await;
    assert!(refused.contains("\r\nRetry-After:"), "{refused}");
    assert!(!call.running.is_finished(), "a call is up");

    let bye = caller.request("BYE", &call.to, "one", 2, EMPTY);
    caller.send(&bye).await;
    let bye = call.callee.receive("BYE ").await;
    call.callee.answer(&bye, "200 OK", EMPTY).await;
    caller.receive("SIP/2.0 200").await;
    call.running.await.unwrap();
}

#[tokio::test]
async fn when_the_time_to_drain_is_over_calls_are_hung_up() {
    let mut call = Call::new("limit", "[limits]\ndrain_seconds = 0\n").await;
    call.terminate().await;
    for phone in [&call.caller, &call.callee] {
        let bye = phone.receive("BYE ").await;
        phone.answer(&bye, "200 OK", EMPTY).await;
    }
    call.running.await.unwrap();
}

#[tokio::test]
async fn a_second_signal_hangs_up_and_ends_at_once() {
    let call = Call::new("twice", "").await;
    for _ in 0..2 {
        call.commands.send(Command::Terminate).await.unwrap();
    }
    call.callee.receive("BYE ").await;
    call.caller.receive("BYE ").await;
    call.running.await.unwrap();
}

#[tokio::test]
async fn a_call_is_hung_up_by_a_peer_that_is_no_longer_an_address_of_its_trunk() {
    let mut call = Call::new("moved", "").await;
    let address = call.callee.address().to_string();
    call.reload(&address, "127.0.0.4:9").await;
    let (caller, callee) = (&call.caller, &call.callee);
    callee.send(&call.bye_of_callee()).await;
    // Its answer comes after what came before it.
    let options = caller.request("OPTIONS", "<sip:127.0.0.1>", "after", 1, EMPTY);
    caller.send(&options).await;
    let bye = caller.receive("BYE ").await;
    caller.answer(&bye, "200 OK", EMPTY).await;
    callee.receive("SIP/2.0 200").await;
    call.terminate().await;
    call.running.await.unwrap();
}

#[tokio::test]
async fn a_call_is_hung_up_over_a_listener_that_its_trunk_has_no_more() {
    let mut call = Call::new("listener", "").await;
    let old = call.caller.sbc.to_string();
    let new = free_port("127.0.0.1");
    call.reload(&old, &new.to_string()).await;
    let (caller, callee) = (&call.caller, &call.callee);
    // So that it hears when nobody is there.
    callee.socket.connect(callee.sbc).await.unwrap();
    callee.send(&call.bye_of_callee()).await;
    callee.receive("SIP/2.0 200").await;
    let bye = caller.receive("BYE ").await;
    caller.answer(&bye, "200 OK", EMPTY).await;
    call.terminate().await;
    call.running.await.unwrap();
}
