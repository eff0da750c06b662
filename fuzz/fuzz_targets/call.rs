//! The core of calls under what three peers send it: messages, one after the other, separated by
//! `%`, each from the peer and after the pause that its first two octets say. The first one says the
//! trunks' settings, too. Whatever came, once everybody is silent nothing is left: no call, no port,
//! no timer.

#![no_main]

use std::{
    net::SocketAddr,
    path::Path,
    sync::{Arc, LazyLock},
    time::{Duration, Instant},
};

use bytes::Bytes;
use control::{
    call::Core,
    config::{self, Settings},
    sip::Flow,
};
use libfuzzer_sys::fuzz_target;
use relay_user::media::{MediaInterface, MemoryMedia};

/// A carrier that calls a contact centre of two addresses, and is called.
const SETTINGS: &str = r#"
[media]
ports = "20000-20099"
[limits]
ring_seconds = 60
[[interface]]
name = "carrier0"
addresses = ["198.51.100.1"]
[[interface]]
name = "centre0"
addresses = ["192.0.2.1"]
[[trunk]]
name = "carrier"
interface = "carrier0"
transport = "udp"
listen = "198.51.100.1:5060"
addresses = ["198.51.100.2:5060"]
CARRIER
[[trunk]]
name = "centre"
interface = "centre0"
transport = "udp"
listen = "192.0.2.1:5060"
addresses = ["192.0.2.2:5060", "192.0.2.3:5060"]
CENTRE
[[route]]
from = ["carrier"]
number = "^\\+1555"
trunk = "centre"
[[route]]
from = ["centre"]
number = "^\\+44"
trunk = "carrier"
"#;

/// Further keys of the carrier and of the centre, which may be Teams.
const KEYS: [[&str; 2]; 4] = [
    ["", ""],
    ["", TEAMS],
    [
        "sip.session_expires = 1800\nsip.reliable_provisional = true\nsip.update = true\n\
         sip.ringback = \"first-183\"",
        "domain = \"sbc.example.com\"\nhold = \"inactive\"\nsip.profile = \"teams\"\n\
         srtp = \"require\"\nice = \"lite\"\nsip.session_expires = 1800",
    ],
    [
        "authentication.user = [{ name = \"alice\", password = \"wonderland\" }]",
        "srtp = \"offer\"\nsip.refer = false\ncredentials.user = \"trunk-7\"\n\
         credentials.password = \"sesame\"",
    ],
];
const TEAMS: &str = "domain = \"sbc.example.com\"\nhold = \"inactive\"\nsip.profile = \"teams\"";

static PARSED: LazyLock<[Arc<Settings>; 4]> = LazyLock::new(|| {
    KEYS.map(|[carrier, centre]| {
        let text = SETTINGS
            .replace("CARRIER", carrier)
            .replace("CENTRE", centre);
        let settings = config::parse(&text, Path::new("fuzz.toml")).expect("settings");
        Arc::new(settings.with_lookups(|_| Vec::new()))
    })
});

/// More than a call may last without a word: every timer has fired after so many steps of time.
const STEPS: usize = 100_000;

fuzz_target!(|octets: &[u8]| {
    let choice = octets.first().map_or(0, |first| first >> 1 & 3);
    let settings = &PARSED[usize::from(choice)];
    let interfaces = settings.interfaces.iter().map(|interface| MediaInterface {
        name: interface.name.clone(),
        addresses: interface.addresses.clone(),
    });
    let media = MemoryMedia::new(interfaces.collect(), settings.media.ports.range());
    let mut core = Core::new(Arc::clone(settings), media.clone(), [7; 32]);
    let mut now = Instant::now();
    for part in octets.split(|octet| *octet == b'%') {
        let Some(([peer, pause], message)) = part.split_first_chunk() else {
            continue;
        };
        now += Duration::from_millis(u64::from(*pause) * 20);
        core.timeout(now);
        let (local, remote) = match peer & 9 {
            0 | 8 => ("198.51.100.1:5060", "198.51.100.2:5060"),
            1 => ("192.0.2.1:5060", "192.0.2.2:5060"),
            _ => ("192.0.2.1:5060", "192.0.2.3:5060"),
        };
        let flow = Flow::udp(address(local), address(remote));
        core.receive(now, &flow, &Bytes::copy_from_slice(message));
        drain(&mut core);
    }
    core.hang_up(now);
    drain(&mut core);
    for _ in 0..STEPS {
        let Some(next) = core.next_timeout() else {
            break;
        };
        now = now.max(next);
        core.timeout(now);
        drain(&mut core);
    }
    assert_eq!(core.call_count(), 0);
    assert!(core.is_idle(), "something never ends");
    assert_eq!(media.reserved_ports(), 0);
});

fn drain(core: &mut Core<MemoryMedia>) {
    while core.poll().is_some() {}
}

fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}
