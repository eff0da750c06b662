//! A daemon for the tests of what asks one.

use std::{path::Path, sync::Arc};

use relay_user::media::{CallId, FlowSnapshot, MediaSnapshot, MemoryMedia, StreamStatistics};
use tokio::{sync::mpsc, task::JoinHandle};

use super::{Command, Daemon, Handle, MediaObserver, Phase};
use crate::{config, transport::free_port};

/// A media plane with nothing to see.
pub(crate) struct Nothing;

impl MediaObserver for Nothing {
    fn snapshot(&self) -> MediaSnapshot {
        MediaSnapshot::default()
    }

    fn flows(&self) -> Vec<FlowSnapshot> {
        Vec::new()
    }

    fn streams(&self, _call: CallId) -> Option<[StreamStatistics; 2]> {
        None
    }
}

pub(crate) struct Running {
    pub(crate) handle: Handle,
    commands: mpsc::Sender<Command>,
    task: JoinHandle<()>,
}

impl Running {
    pub(crate) async fn end(self) {
        self.commands.send(Command::Terminate).await.unwrap();
        self.task.await.unwrap();
    }
}

/// A daemon that is ready, with a trunk `a` and no listener but a port of its own.
pub(crate) async fn daemon() -> Running {
    let port = free_port("127.0.0.1").port();
    let text = format!(
        "[media]\nports = \"60000-60009\"\n[[interface]]\nname = \"lo\"\naddresses = [\"127.0.0.1\"]\n\
         [[trunk]]\nname = \"a\"\ninterface = \"lo\"\ntransport = \"udp\"\nlisten = \"127.0.0.1:{port}\"\n\
         addresses = [\"127.0.0.1:9\"]\n"
    );
    let settings = config::parse(&text, Path::new("test.toml")).unwrap();
    let media = MemoryMedia::new(
        config::relay_config(&settings, None).interfaces,
        settings.media.ports.range(),
    );
    let (sender, commands) = mpsc::channel(8);
    let (daemon, mut handle) = Daemon::start(
        settings,
        "test.toml".into(),
        media,
        Arc::new(Nothing),
        commands,
        Box::new(|_| {}),
        [7; 32],
    )
    .unwrap();
    let task = tokio::spawn(daemon.run());
    handle
        .phase
        .wait_for(|phase| *phase == Phase::Ready)
        .await
        .unwrap();
    Running {
        handle,
        commands: sender,
        task,
    }
}
