//! TLS and certificates; the addresses that may speak.

use std::{
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, UdpSocket},
    sync::Arc,
    time::Duration,
};

use rustls::{
    CipherSuite, SupportedProtocolVersion,
    version::{TLS12, TLS13},
};

use super::{
    Group, Row, demand, group,
    observe::heard,
    row,
    stage::{CUSTOMERS, OPTIONS, SBC, Stage, StageSettings, connect},
    untestable,
};
use crate::{
    lab::{LabError, Party, Result, wait_until},
    twin::{
        agent::SOON,
        authority::{Authority, Owner, Wanted},
        link::Link,
        media::Media,
        message::Message,
        names::covers,
        rules::PROXIES,
        tls,
    },
};

pub(super) fn groups() -> Vec<Group> {
    vec![
        Group {
            name: "mutual",
            settings: StageSettings {
                mutual: true,
                ..StageSettings::default()
            },
            rows: mutual(),
        },
        Group {
            name: "wildcard",
            settings: StageSettings {
                names: vec!["*.sbc.example.com"],
                tenants: vec![CUSTOMERS[0]],
                ..StageSettings::default()
            },
            rows: vec![row(
                "tls/wildcard",
                "a wildcard certificate for one label",
                |stage| {
                    let (_outgoing, incoming) = stage.carrier_calls_teams(|_| {})?;
                    let names = names(&incoming.arrival.link)?;
                    demand(names == ["*.sbc.example.com"], || {
                        format!("the certificate says {names:?}")
                    })
                },
            )],
        },
        group("tls", rows()),
        group("addresses", addresses()),
    ]
}

fn rows() -> Vec<Row> {
    vec![
        row(
            "tls/version-1.2-in",
            "Teams connects with TLS 1.2",
            |stage| opens(stage, &TLS12, &tls::SUITES),
        ),
        row(
            "tls/version-1.3-in",
            "Teams connects with TLS 1.3",
            |stage| opens(stage, &TLS13, &tls::SUITES),
        ),
        row(
            "tls/version-1.1-refused",
            "TLS 1.1 is turned down",
            |stage| {
                let to = stage.sbc_tls;
                let door = stage.lab.peer(Party::Teams).door();
                let answer = door.enter(move || hello(to))?.map_err(LabError::new)?;
                // An alert, whose description is protocol_version.
                demand(
                    answer.first() == Some(&0x15) && answer.get(6) == Some(&70),
                    || format!("the SBC says {answer:?}"),
                )
            },
        ),
        row(
            "tls/version-1.2-out",
            "the SBC connects with TLS 1.2 and a listed suite",
            |stage| {
                let server =
                    tls::server(&stage.teams_identity, &stage.authority.roots()?, &[&TLS12])?;
                let usual = tls::server(
                    &stage.teams_identity,
                    &stage.authority.roots()?,
                    &tls::VERSIONS,
                )?;
                stage.twin.set_server(0, &server);
                stage.twin.set_open(0, false);
                stage.twin.set_open(0, true);
                let done = stage.wait_ready().and_then(|()| {
                    let (_outgoing, incoming) = stage.carrier_calls_teams(|_| {})?;
                    let suite = incoming.arrival.link.connection().and_then(|it| it.suite);
                    let at = stage.twin.proxy_of(&incoming.arrival.link);
                    demand(
                        at == Some(0) && suite.is_some_and(|suite| tls::SUITES.contains(&suite)),
                        || format!("at proxy {at:?} with {suite:?}"),
                    )
                });
                stage.twin.set_server(0, &usual);
                done
            },
        ),
        row(
            "tls/suite-aes256-gcm",
            "ECDHE-RSA-AES256-GCM-SHA384 is taken",
            |stage| opens(stage, &TLS12, &[tls::SUITES[0]]),
        ),
        row(
            "tls/suite-aes128-gcm",
            "ECDHE-RSA-AES128-GCM-SHA256 is taken",
            |stage| opens(stage, &TLS12, &[tls::SUITES[1]]),
        ),
        untestable(
            "tls/suites-cbc",
            "the CBC-SHA384 and CBC-SHA256 forms",
            "one suite of the list is enough, and the twin's TLS library has none with CBC",
        ),
        row(
            "tls/certificate-out",
            "the SBC shows a certificate with its name when it connects",
            |stage| {
                let (_outgoing, incoming) = stage.carrier_calls_teams(|_| {})?;
                let names = names(&incoming.arrival.link)?;
                demand(covers(&names, SBC), || format!("it says {names:?}"))
            },
        ),
        row(
            "tls/certificate-in",
            "the SBC shows a certificate with its name to those who connect",
            |stage| {
                let names = names(&stage.teams_link()?)?;
                demand(covers(&names, SBC), || format!("it says {names:?}"))
            },
        ),
        row(
            "tls/intermediates",
            "intermediates are sent both ways",
            |stage| {
                let (_outgoing, incoming) = stage.carrier_calls_teams(|_| {})?;
                for link in [&incoming.arrival.link, &stage.teams_link()?] {
                    let count = link.connection().map_or(0, |it| it.certificates);
                    demand(count == 2, || format!("{count} certificates were sent"))?;
                }
                Ok(())
            },
        ),
        row(
            "tls/proxy-by-trusted-root",
            "a proxy whose certificate no trusted root signed is not used",
            |stage| {
                let stranger = Authority::new("Stranger")?;
                refuses_proxy(stage, &stranger, &PROXIES)
            },
        ),
        row(
            "tls/proxy-name-in-san",
            "a proxy whose certificate does not hold sip.pstnhub.microsoft.com is not used",
            |stage| refuses_proxy(stage, &stage.authority, &["sip.example.net"]),
        ),
        row(
            "tls/no-client-auth",
            "a certificate of Teams without clientAuth is taken",
            |stage| stage.teams_calls_carrier(|_| {}).map(drop),
        ),
        row(
            "tls/renewal",
            "after a renewal old connections are closed, and calls go on",
            |stage| {
                let (caller, callee) = stage.teams_to_carrier()?;
                heard(&caller, &callee)?;
                let old = stage.teams_link()?;
                renew(stage)?;
                let closed = closes(&old);
                caller.go_over(&stage.twin.connect(0, stage.sbc_tls, SBC)?);
                caller.reinvite(&[], |_| {})?;
                heard(&caller, &callee)?;
                demand(closed, || {
                    "the connection with the old certificate stays open".to_owned()
                })
            },
        ),
        row(
            "tls/renewal-ringing",
            "a call that rings over an old connection is not lost by a renewal",
            |stage| {
                let (outgoing, mut incoming) = stage.teams_calls_carrier(|_| {})?;
                incoming.respond(180, "Ringing", None, &[])?;
                outgoing.wait_status(180..200, SOON)?;
                let old = stage.teams_link()?;
                renew(stage)?;
                let (caller, callee) = connect(outgoing, incoming)?;
                heard(&caller, &callee)?;
                let closed = closes(&old);
                demand(closed, || {
                    "the connection with the old certificate stays open".to_owned()
                })?;
                caller.go_over(&stage.twin.connect(0, stage.sbc_tls, SBC)?);
                caller.bye()?;
                callee.wait_bye(SOON).map(|_| ())
            },
        ),
    ]
}

/// Renews the SBC's certificate, and waits until new connections see it.
fn renew(stage: &Stage) -> Result<()> {
    let fresh = stage.renew_certificate()?;
    let shown = wait_until(SOON, || {
        let link = stage.twin.connect(0, stage.sbc_tls, SBC);
        link.is_ok_and(|link| link.connection().is_some_and(|it| it.certificate == fresh))
    });
    demand(shown, || {
        "new connections see the old certificate".to_owned()
    })
}

/// Whether a connection is closed.
fn closes(link: &Link) -> bool {
    wait_until(SOON, || link.connection().is_some_and(|it| it.is_closed()))
}

fn mutual() -> Vec<Row> {
    vec![
        row(
            "tls/mutual",
            "those who connect must show a certificate by a trusted root with a proxy's name",
            |stage| {
                let stranger = Authority::new("Stranger")?;
                let roots = stage.authority.roots()?;
                let issue = |authority: &Authority, names: &[&str]| {
                    authority.issue(
                        Owner::Teams,
                        &Wanted {
                            common_name: names[0],
                            alternatives: names,
                            usages: &[],
                        },
                    )
                };
                let foreign = issue(&stranger, &PROXIES)?;
                let misnamed = issue(&stage.authority, &["sip.example.net"])?;
                for (what, identity) in [
                    ("no certificate", None),
                    ("a stranger's certificate", Some(&foreign)),
                    ("another name", Some(&misnamed)),
                ] {
                    let config = tls::client(identity, &roots, &tls::VERSIONS, &tls::SUITES)?;
                    let from = Some(stage.proxy_address(0));
                    // By TLS 1.3 the one who connects is done before its certificate is looked at.
                    let link = stage.twin.connect_with(from, stage.sbc_tls, SBC, &config)?;
                    demand(!is_served(stage, &link)?, || format!("{what} is served"))?;
                    demand(closes(&link), || format!("{what}: the connection stays"))?;
                }
                demand(is_served(stage, &stage.teams_link()?)?, || {
                    "a proxy's own certificate is not served".to_owned()
                })
            },
        ),
        row(
            "tls/mutual-no-client-auth",
            "also where a certificate is demanded, clientAuth is not",
            |stage| stage.teams_calls_carrier(|_| {}).map(drop),
        ),
    ]
}

fn addresses() -> Vec<Row> {
    vec![
        row(
            "addresses/signalling",
            "signalling from outside of the configured ranges is not served",
            |stage| {
                demand(is_served(stage, &stage.teams_link()?)?, || {
                    "an address inside the ranges is not served".to_owned()
                })?;
                let roots = stage.authority.roots()?;
                let identity = Some(&stage.teams_identity);
                let config = tls::client(identity, &roots, &tls::VERSIONS, &tls::SUITES)?;
                let outside = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 10));
                // That nothing comes of it is the SBC's doing, and not for want of the address.
                let door = stage.lab.peer(Party::Teams).door();
                door.enter(|| UdpSocket::bind((outside, 0)))?
                    .map_err(|error| LabError::new(format!("{outside}: {error}")))?;
                let link = stage
                    .twin
                    .connect_with(Some(outside), stage.sbc_tls, SBC, &config);
                let Ok(link) = link else { return Ok(()) };
                demand(!is_served(stage, &link)?, || format!("{outside} is served"))
            },
        ),
        row(
            "addresses/media",
            "media from outside of the configured ranges is not relayed",
            |stage| {
                let (outgoing, incoming) = stage.teams_calls_carrier(|_| {})?;
                // Teams' own is silent: whoever is heard first has the call.
                outgoing.media.end();
                let (caller, callee) = connect(outgoing, incoming)?;
                let target = caller.sdp()?.audio_target();
                let (door, key) = (stage.lab.peer(Party::Teams).door(), caller.key()?);
                let speak = |address: IpAddr| -> Result<Arc<Media>> {
                    let media = Media::open(&door, address, true)?;
                    media.protect_with(&key);
                    media.send_to(target, 0);
                    Ok(media)
                };
                let outside = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 10));
                let other = speak(outside)?;
                let moment = Duration::from_secs(3);
                let heard_outside = callee.media.hears_within(moment, &other, "the carrier");
                let heard_outside = heard_outside.is_ok();
                demand(!heard_outside, || format!("{outside} is heard"))?;
                let inside = speak(stage.proxy_address(1))?;
                callee.media.hears(&inside, "the carrier")
            },
        ),
        row(
            "addresses/ports",
            "the media processors' ports are 3478–3481 and 49152–53247 (T)",
            |stage| {
                for port in [3478, 3481, 49152, 53247] {
                    stage.twin.agent.set_media_port(port);
                    let (caller, callee) = stage.teams_to_carrier()?;
                    let at = caller.media.address.port();
                    demand(at == port, || format!("the twin's media is at {at}"))?;
                    heard(&caller, &callee)
                        .map_err(|error| LabError::new(format!("{port}: {error}")))?;
                }
                Ok(())
            },
        ),
    ]
}

fn names(link: &Link) -> Result<Vec<String>> {
    link.connection()
        .map(|connection| connection.names.clone())
        .ok_or_else(|| LabError::new("it did not come over TLS"))
}

fn opens(
    stage: &Stage,
    version: &'static SupportedProtocolVersion,
    suites: &[CipherSuite],
) -> Result<()> {
    let roots = stage.authority.roots()?;
    let identity = Some(&stage.teams_identity);
    let config = tls::client(identity, &roots, &[version], suites)?;
    let from = Some(stage.proxy_address(0));
    let link = stage.twin.connect_with(from, stage.sbc_tls, SBC, &config)?;
    demand(is_served(stage, &link)?, || {
        "OPTIONS has no 200 over it".to_owned()
    })
}

/// Whether OPTIONS is answered with 200.
pub(super) fn is_served(stage: &Stage, link: &Link) -> Result<bool> {
    let options: Message = stage.twin.options(link, SBC);
    let mark = stage.twin.agent.mark();
    if stage.twin.agent.send(link, &options).is_err() {
        return Ok(false);
    }
    let answer = || {
        let mut arrivals = stage.twin.agent.arrivals(mark).into_iter();
        arrivals.find(|it| it.message.branch() == options.branch() && !it.message.is_request())
    };
    // Who is not served is cut off.
    wait_until(SOON, || {
        answer().is_some() || link.connection().is_some_and(|it| it.is_closed())
    });
    Ok(answer().is_some_and(|it| it.message.status() == Some(200)))
}

/// With another certificate at the first proxy, a call goes to the second.
fn refuses_proxy(stage: &Stage, authority: &Authority, names: &[&str]) -> Result<()> {
    // Nothing from before keeps calls from the first.
    stage.wait_first(Duration::from_secs(OPTIONS.into()) + SOON)?;
    let identity = authority.issue(
        Owner::Teams,
        &Wanted {
            common_name: names[0],
            alternatives: names,
            usages: &[],
        },
    )?;
    let roots = stage.authority.roots()?;
    let usual = tls::server(&stage.teams_identity, &roots, &tls::VERSIONS)?;
    let wrong = tls::server(&identity, &roots, &tls::VERSIONS)?;
    stage.twin.set_server(0, &wrong);
    stage.twin.set_open(0, false);
    stage.twin.set_open(0, true);
    let call = stage.carrier_calls_teams(|_| {});
    stage.twin.set_server(0, &Arc::clone(&usual));
    let (_outgoing, incoming) = call?;
    let at = stage.twin.proxy_of(&incoming.arrival.link);
    demand(at == Some(1), || {
        format!("the call went to proxy {:?}", at.map(|at| at + 1))
    })
}

fn hello(to: SocketAddr) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(to)?;
    stream.set_read_timeout(Some(SOON))?;
    stream.write_all(&tls::hello_of_tls_1_1())?;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    Ok(answer)
}
