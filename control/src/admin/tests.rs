//! The admin socket of a daemon with a media plane in memory.

use std::{
    fs,
    io::{Read, Write},
    os::unix::{fs::PermissionsExt, net::UnixStream},
    path::{Path, PathBuf},
};

use super::{table::octets, *};
use crate::{daemon::testing, transport::Discard};

fn socket(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!(
        "trunkline-admin-{name}-{}.sock",
        std::process::id()
    ))
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.unwrap()
}

/// Writes some octets and reads until the other side closes or answered once.
fn raw(path: &Path, request: &[u8]) -> String {
    let mut stream = UnixStream::connect(path).unwrap();
    stream.write_all(request).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[tokio::test]
async fn questions_are_answered_and_nonsense_is_refused() {
    let path = socket("questions");
    let running = testing::daemon().await;
    let server = AdminServer::bind(&path).unwrap();
    assert_eq!(
        fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let serving = tokio::spawn(server.run(running.handle.clone()));

    let question = path.clone();
    let ask_for = |request: Request| {
        let path = question.clone();
        blocking(move || ask(&path, &request))
    };
    assert_eq!(
        ask_for(Request::Calls).await.unwrap(),
        Response::Calls(Vec::new())
    );
    assert_eq!(
        ask_for(Request::Flows).await.unwrap(),
        Response::Flows(Vec::new())
    );
    for id in ["17", "3848276298220188511@example.com"] {
        let error = ask_for(Request::Call { id: id.to_owned() })
            .await
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("no call {id:?}: `trunkline calls` lists those that are up")
        );
    }
    match ask_for(Request::Trunks).await.unwrap() {
        Response::Trunks(trunks) => {
            assert_eq!(trunks.len(), 1);
            assert_eq!((&*trunks[0].name, trunks[0].calls), ("a", 0));
            let address = &trunks[0].addresses[0];
            assert_eq!(
                (&*address.address, &*address.state),
                ("127.0.0.1:9", "up"),
                "one that is not asked"
            );
        }
        other => panic!("{other:?}"),
    }
    match ask_for(Request::Stats).await.unwrap() {
        Response::Stats(report) => assert_eq!(report.phase, "ready"),
        other => panic!("{other:?}"),
    }
    let say = |octets: &'static [u8]| {
        let path = question.clone();
        blocking(move || raw(&path, octets))
    };
    assert_eq!(
        say(b"{\"command\":\"calls\"}\n{\"command\":\"calls\"}\n").await,
        "{\"ok\":{\"calls\":[]}}\n{\"ok\":{\"calls\":[]}}\n"
    );
    assert!(
        say(b"{\"command\":\"hang-up\"}\n")
            .await
            .starts_with("{\"error\":\"not a request: unknown variant `hang-up`")
    );
    assert!(
        say(b"\xff\xfe\n")
            .await
            .starts_with("{\"error\":\"not a request")
    );
    assert_eq!(
        say(&[b'x'; 5_000]).await,
        "{\"error\":\"a request is one line of at most 4096 octets\"}\n"
    );
    let discards = running.handle.discards();
    assert_eq!(discards.get(Discard::AdminRequest), 3);

    running.end().await;
    let error = ask_for(Request::Calls).await.unwrap_err();
    assert_eq!(error.to_string(), "the daemon is ending");
    serving.abort();
    let _ = serving.await;
    assert!(!path.exists(), "the socket's file goes with the server");
    let error = ask_for(Request::Calls).await.unwrap_err();
    assert!(error.to_string().contains("start the daemon"), "{error}");
}

#[tokio::test]
async fn one_daemon_serves_a_socket() {
    let path = socket("one");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists(), "left behind by an earlier run");
    let first = AdminServer::bind(&path).unwrap();
    assert!(matches!(
        AdminServer::bind(&path),
        Err(ServerError::InUse(_))
    ));
    drop(first);
    assert!(matches!(
        AdminServer::bind(Path::new("/proc/trunkline.sock")),
        Err(ServerError::Socket { .. })
    ));
}

#[test]
fn a_file_in_the_socket_s_place_is_left_alone() {
    let path = socket("file");
    fs::write(&path, "precious").unwrap();
    let error = AdminServer::bind(&path).unwrap_err();
    assert!(
        error.to_string().contains("what is there is no socket"),
        "{error}"
    );
    assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    fs::remove_file(&path).unwrap();
}

#[test]
fn tables_are_set_in_columns_and_hold_no_control_characters() {
    let stream = |direction: &str| StreamReport {
        direction: direction.to_owned(),
        path: "userspace".to_owned(),
        reason: Some("srtp-gcm".to_owned()),
        state: "flowing".to_owned(),
        packets_xdp: 5,
        packets_userspace: 1_500,
        octets: 258_000,
        dropped: 2,
        lost: 3,
        jitter_ms: 0.5,
        mos: Some(4.37),
        srtp_failures: 1,
        srtp_alarm: true,
        peer: Some("192.0.2.7:4000".to_owned()),
    };
    let leg = |trunk: &str| LegReport {
        trunk: trunk.to_owned(),
        call_id: "a\u{1b}[31m@b".to_owned(),
        remote: "192.0.2.7:5060".to_owned(),
        media: None,
    };
    let call = CallReport {
        id: 7,
        state: "established".to_owned(),
        from: None,
        to: "+15551234".to_owned(),
        caller: leg("carrier"),
        callee: leg("teams"),
        codec: Some("PCMU/8000".to_owned()),
        held: false,
        age: 3_725,
        answered: Some(3_720),
        streams: vec![stream("carrier -> teams"), stream("teams -> carrier")],
    };
    assert_eq!(
        calls_table(std::slice::from_ref(&call)),
        "ID  STATE        AGE      FROM     NUMBER  TO     NUMBER     CODEC      PATH                  THERE  BACK\n \
         7  established  1:02:05  carrier  -       teams  +15551234  PCMU/8000  userspace (srtp-gcm)   1505  1505\n"
    );
    let text = call_table(&call);
    assert!(text.contains("a?[31m@b"), "{text}");
    assert!(text.contains("1 (alarm)"), "{text}");
    assert!(text.contains("carrier -> teams  userspace (srtp-gcm)  flowing"));
    assert_eq!(trunks_table(&[]), "no trunks\n");
    let up = AddressReport {
        address: "192.0.2.2:5061".to_owned(),
        name: Some("sip.example.com".to_owned()),
        priority: "1.10".to_owned(),
        weight: 60,
        state: "up".to_owned(),
        why: None,
        since: None,
        retry_after: None,
        answer: Some("403".to_owned()),
        answered: Some(61),
        heard: Some(2),
        round_trip_ms: Some(1.5),
        calls: 3,
        openings: 0,
    };
    let down = AddressReport {
        address: "192.0.2.3:5061".to_owned(),
        name: None,
        priority: "2".to_owned(),
        weight: 1,
        state: "down".to_owned(),
        why: Some("503 to an INVITE".to_owned()),
        since: Some(12),
        retry_after: Some(18),
        answer: None,
        answered: None,
        heard: Some(12),
        round_trip_ms: None,
        calls: 0,
        openings: 1,
    };
    let trunk = |name: &str, interval, addresses| TrunkReport {
        name: name.to_owned(),
        options_interval: interval,
        calls: 3,
        registration: None,
        addresses,
    };
    let registered = RegistrationReport {
        address: "sip:line@example.com".to_owned(),
        state: "registered".to_owned(),
        code: Some(200),
        expires: Some(90),
        failures: 0,
    };
    assert_eq!(
        trunks_table(&[
            trunk("teams", Some(60), vec![up, down]),
            TrunkReport {
                registration: Some(registered),
                ..trunk("in", None, vec![])
            }
        ]),
        "TRUNK  ADDRESS                           PRIORITY  WEIGHT  STATE  WHY                                SINCE    ANSWER  AGO      HEARD    RTT MS  OPTIONS  CALLS\n\
         teams  192.0.2.2:5061 (sip.example.com)      1.10      60  up                                        -        403     0:01:01  0:00:02    1.50  60 s         3\n\
         teams  192.0.2.3:5061                           2       1  down   503 to an INVITE, wants 18 s more  0:00:12  -       -        0:00:12          60 s         0\n\
         in     -                                                                                                                                        -            3\n\
         in: sip:line@example.com is registered, the last answer 200, ends in 0:01:30\n"
    );
    assert_eq!(calls_table(&[]), "no calls\n");
    assert_eq!(flows_table(&[]), "no flows\n");
    assert_eq!(octets(512), "512 B");
    assert_eq!(octets(3 << 20), "3.0 MiB");
}
