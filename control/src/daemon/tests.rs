//! The daemon over loopback, with a media plane in memory.

use std::{fs, path::Path};

use relay_user::media::MemoryMedia;
use tokio::net::UdpSocket;

use super::{testing::Nothing, *};
use crate::config;

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
    std::net::UdpSocket::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
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
    ] {
        fs::write(file.path(), &wrong).unwrap();
        daemon.reloaded(reload::read(file.path().to_owned(), Lookups::new()).await);
        assert!(Arc::ptr_eq(&before, &daemon.settings), "{wrong}");
    }
    fs::write(file.path(), text(port, "[limits]\ncalls = 5\n")).unwrap();
    daemon.reloaded(reload::read(file.path().to_owned(), Lookups::new()).await);
    assert_eq!(daemon.settings.limits.calls, 5);
}
