//! The `trunkline` daemon as a process, in a network namespace of its own.

mod rooted {
    use std::{
        fs,
        io::{BufRead, BufReader},
        net::UdpSocket,
        path::{Path, PathBuf},
        process::{Child, Command, ExitStatus, Output, Stdio},
        sync::mpsc::{self, Receiver},
        thread,
        time::{Duration, Instant},
    };

    use nix::sched::{CloneFlags, setns};
    use serde_json::Value;

    /// For what should happen at once; a failure, not a measure.
    const LIMIT: Duration = Duration::from_secs(30);

    /// A namespace with a loopback device, and a folder for files. All of it goes with it.
    struct Place {
        namespace: String,
        folder: PathBuf,
    }

    fn run(program: &str, arguments: &[&str]) -> Output {
        Command::new(program).args(arguments).output().unwrap()
    }

    impl Place {
        fn new(name: &str) -> Self {
            let namespace = format!("tl-{name}-{}", std::process::id());
            let folder = std::env::temp_dir().join(&namespace);
            fs::create_dir_all(&folder).unwrap();
            let place = Self { namespace, folder };
            for arguments in [
                vec!["netns", "add", &place.namespace],
                vec!["-n", &place.namespace, "link", "set", "lo", "up"],
            ] {
                let output = run("ip", &arguments);
                assert!(output.status.success(), "{output:?}");
            }
            place
        }

        fn file(&self, name: &str) -> PathBuf {
            self.folder.join(name)
        }

        fn configure(&self, more: &str) {
            let text = format!(
                "[media]\nports = \"20000-20099\"\nworkers = 1\nflows = 100\n\
                 [admin]\nmetrics = \"127.0.0.1:9090\"\nsocket = \"{}\"\n\
                 [[interface]]\nname = \"lo\"\naddresses = [\"127.0.0.1\"]\n\
                 [[trunk]]\nname = \"udp\"\ninterface = \"lo\"\ntransport = \"udp\"\n\
                 listen = \"127.0.0.1:5060\"\nallowed_sources = [\"127.0.0.0/8\"]\n\
                 [[trunk]]\nname = \"tcp\"\ninterface = \"lo\"\ntransport = \"tcp\"\n\
                 listen = \"127.0.0.1:5060\"\naddresses = [\"127.0.0.2\"]\n\
                 allowed_sources = [\"127.0.0.0/8\"]\n\
                 [[route]]\ntrunk = \"tcp\"\n{more}",
                self.file("admin.sock").display()
            );
            fs::write(self.file("trunkline.toml"), text).unwrap();
        }

        /// A resolver for what is started inside from now on. Every question of which that is true
        /// is answered with NXDOMAIN, and the others are held.
        fn resolver(&self, knows_not: impl Fn(u16) -> bool + Send + 'static) -> Receiver<u16> {
            let folder = self.resolver_folder();
            fs::create_dir_all(&folder).unwrap();
            let text = "nameserver 127.0.0.1\noptions timeout:30 attempts:5\n";
            fs::write(folder.join("resolv.conf"), text).unwrap();
            let namespace = fs::File::open(Path::new("/run/netns").join(&self.namespace)).unwrap();
            let socket = thread::spawn(move || {
                setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
                UdpSocket::bind("127.0.0.1:53").unwrap()
            });
            let socket = socket.join().unwrap();
            let (sender, held) = mpsc::channel();
            thread::spawn(move || {
                let mut octets = [0; 512];
                // The namespace goes with it.
                socket.set_read_timeout(Some(LIMIT)).unwrap();
                while let Ok((length, from)) = socket.recv_from(&mut octets) {
                    let question = &mut octets[..length];
                    let kind = kind(question);
                    if knows_not(kind) {
                        // RFC 1035 §4.1.1: QR, RD, RA and the code.
                        question[2..4].copy_from_slice(&[0x81, 0x83]);
                        socket.send_to(question, from).unwrap();
                    } else if sender.send(kind).is_err() {
                        return;
                    }
                }
            });
            held
        }

        fn resolver_folder(&self) -> PathBuf {
            Path::new("/etc/netns").join(&self.namespace)
        }

        /// Runs a shell's line inside.
        fn shell(&self, line: &str) -> Output {
            let limit = LIMIT.as_secs().to_string();
            let inside = ["netns", "exec", &self.namespace];
            run(
                "ip",
                &[&inside[..], &["timeout", &limit, "bash", "-c", line]].concat(),
            )
        }

        /// Sends octets from a file to a port of the daemon. The daemon may close a connection
        /// before all is written.
        fn send(&self, transport: &str, octets: &[u8]) {
            let file = self.file("octets");
            fs::write(&file, octets).unwrap();
            // One write, so that a datagram stays one.
            self.shell(&format!(
                "exec 3<>/dev/{transport}/127.0.0.1/5060 && dd if={} bs=70000 count=1 >&3",
                file.display()
            ));
        }

        fn get(&self, path: &str) -> String {
            let output = self.shell(&format!(
                "exec 3<>/dev/tcp/127.0.0.1/9090 && \
                 printf 'GET {path} HTTP/1.1\\r\\nHost: a\\r\\nConnection: close\\r\\n\\r\\n' >&3 && cat <&3"
            ));
            String::from_utf8(output.stdout).unwrap()
        }

        fn ask(&self, question: &str) -> Value {
            let output = run(
                env!("CARGO_BIN_EXE_trunkline"),
                &[
                    question,
                    "--json",
                    "--socket",
                    self.file("admin.sock").to_str().unwrap(),
                ],
            );
            assert!(output.status.success(), "{output:?}");
            serde_json::from_slice(&output.stdout).unwrap()
        }

        /// How often something was discarded for a reason.
        fn discarded(&self, reason: &str) -> u64 {
            self.ask("stats")["discarded"]
                .as_array()
                .unwrap()
                .iter()
                .find(|count| count["name"] == reason)
                .map_or(0, |count| count["count"].as_u64().unwrap())
        }

        /// Starts the daemon and waits until it is ready.
        fn start(&self, arguments: &[&str]) -> Daemon {
            let mut daemon = self.begin(arguments);
            daemon.wait_for("ready trunks=2");
            daemon
        }

        /// Starts the daemon.
        fn begin(&self, arguments: &[&str]) -> Daemon {
            let mut child = Command::new("ip")
                .args(["netns", "exec", &self.namespace])
                // It goes with this thread, however that ends.
                .args(["setpriv", "--pdeathsig", "KILL", "--"])
                .arg(env!("CARGO_BIN_EXE_trunkline"))
                .args(["run", "--config"])
                .arg(self.file("trunkline.toml"))
                .args(arguments)
                .env_remove("RUST_LOG")
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            let (sender, log) = mpsc::channel();
            let lines = BufReader::new(child.stderr.take().unwrap()).lines();
            thread::spawn(move || {
                lines
                    .map_while(Result::ok)
                    .try_for_each(|line| sender.send(line))
            });
            Daemon { child, log }
        }
    }

    /// The type that a DNS question asks for (RFC 1035 §4.1.2).
    fn kind(question: &[u8]) -> u16 {
        let name = question[12..].iter().position(|octet| *octet == 0).unwrap();
        u16::from_be_bytes(question[12 + name + 1..][..2].try_into().unwrap())
    }

    impl Drop for Place {
        fn drop(&mut self) {
            let _ = run("ip", &["netns", "del", &self.namespace]);
            let _ = fs::remove_dir_all(&self.folder);
            let _ = fs::remove_dir_all(self.resolver_folder());
        }
    }

    struct Daemon {
        child: Child,
        log: Receiver<String>,
    }

    impl Daemon {
        /// Reads the log up to a line that holds some words, and gives all of it.
        fn wait_for(&mut self, words: &str) -> String {
            let mut seen = String::new();
            while let Ok(line) = self.log.recv_timeout(LIMIT) {
                seen.push_str(&line);
                seen.push('\n');
                if line.contains(words) {
                    return seen;
                }
            }
            panic!("{words:?} was never logged:\n{seen}");
        }

        fn signal(&self, name: &str) {
            // `ip netns exec` and `setpriv` become the daemon, so this is its own number.
            let output = run("kill", &[&format!("-{name}"), &self.child.id().to_string()]);
            assert!(output.status.success(), "{output:?}");
        }

        fn ended(mut self) -> ExitStatus {
            let began = Instant::now();
            loop {
                if let Some(status) = self.child.try_wait().unwrap() {
                    return status;
                }
                assert!(began.elapsed() < LIMIT, "it does not end");
                thread::yield_now();
            }
        }

        /// The memory that it takes, in octets.
        fn memory(&self) -> u64 {
            let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
            let line = status
                .lines()
                .find_map(|line| line.strip_prefix("VmRSS:"))
                .unwrap();
            line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
        }
    }

    impl Drop for Daemon {
        fn drop(&mut self) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }

    #[test]
    fn it_serves_reloads_and_ends() {
        let place = Place::new("edge-life");
        place.configure("");
        let mut daemon = place.start(&["--xdp", "off"]);

        assert!(place.get("/readyz").ends_with("\r\n\r\nready\n"));
        assert!(place.get("/healthz").ends_with("\r\n\r\nok\n"));
        let metrics = place.get("/metrics");
        for line in [
            "trunkline_ready 1.0\n",
            "trunkline_calls{trunk=\"tcp\",state=\"established\"} 0.0\n",
            "trunkline_interface_xdp{interface=\"lo\",mode=\"off\",why=",
            "trunkline_media_port_pairs{interface=\"lo\"} 50.0\n",
        ] {
            assert!(metrics.contains(line), "{line:?} is missing in\n{metrics}");
        }
        assert!(metrics.ends_with("# EOF\n"));
        assert_eq!(place.ask("calls"), Value::Array(Vec::new()));
        assert_eq!(place.ask("flows"), Value::Array(Vec::new()));
        assert_eq!(place.ask("stats")["phase"], "ready");

        place.configure("surprise = true\n");
        daemon.signal("HUP");
        let log = daemon.wait_for("the old one stays in use");
        assert!(
            log.contains("unknown key `surprise` in [[route]]: remove it;"),
            "{log}"
        );
        place.configure("[limits]\nhandshakes = 9\ncalls = 3\n");
        daemon.signal("HUP");
        let log = daemon.wait_for("the new configuration is in use");
        assert!(log.contains("[limits] handshakes"), "{log}");

        daemon.signal("TERM");
        daemon.wait_for("no new calls");
        daemon.wait_for("ended");
        assert!(daemon.ended().success());
        assert!(!place.file("admin.sock").exists());
    }

    #[test]
    fn a_reload_that_comes_while_it_starts_waits() {
        let place = Place::new("edge-early");
        place.configure("");
        let mut daemon = place.begin(&["--xdp", "off"]);
        daemon.wait_for("trunkline starts");
        daemon.signal("HUP");
        daemon.wait_for("the new configuration is in use");
        assert_eq!(place.ask("stats")["phase"], "ready");
    }

    /// AAAA (RFC 3596 §2.1).
    const ADDRESS_IPV6: u16 = 28;
    /// SRV (RFC 2782).
    const SERVICE: u16 = 33;

    /// Begins with a name in the place of an address.
    fn begin_with_name(place: &Place) -> Daemon {
        place.configure("");
        let file = place.file("trunkline.toml");
        let text = fs::read_to_string(&file).unwrap();
        fs::write(&file, text.replace("\"127.0.0.2\"", "\"sbc.example.com\"")).unwrap();
        place.begin(&["--xdp", "off"])
    }

    #[test]
    fn a_signal_during_the_first_lookups_ends_it_at_once() {
        for signal in ["TERM", "INT"] {
            let place = Place::new("edge-names");
            let held = place.resolver(|_| false);
            let mut daemon = begin_with_name(&place);
            assert_eq!(held.recv_timeout(LIMIT), Ok(SERVICE));
            assert_eq!(place.ask("stats")["phase"], "starting");
            daemon.signal(signal);
            let log = daemon.wait_for("ended");
            assert!(log.contains("no new calls"), "{log}");
            for over in ["ready", "could not be looked up"] {
                assert!(!log.contains(over), "{over}: {log}");
            }
            assert!(daemon.ended().success());
            assert!(!place.file("admin.sock").exists());
        }
    }

    #[test]
    fn a_name_that_the_system_looks_up_keeps_it_from_ending_no_longer_than_a_moment() {
        let place = Place::new("edge-system");
        // The daemon itself does not ask for the other family's address.
        let held = place.resolver(|kind| kind != ADDRESS_IPV6);
        let mut daemon = begin_with_name(&place);
        assert_eq!(held.recv_timeout(LIMIT), Ok(ADDRESS_IPV6));
        daemon.signal("TERM");
        daemon.wait_for("ended");
        // The system would wait for two minutes and a half.
        assert!(daemon.ended().success());
    }

    #[test]
    fn a_taken_address_is_named() {
        let place = Place::new("edge-taken");
        place.configure("");
        let _first = place.start(&["--xdp", "off"]);
        let text = fs::read_to_string(place.file("trunkline.toml")).unwrap();
        fs::write(
            place.file("second.toml"),
            text.replace("9090", "9091")
                .replace("admin.sock", "second.sock"),
        )
        .unwrap();
        let output = place.shell(&format!(
            "{} run --xdp off --config {}",
            env!("CARGO_BIN_EXE_trunkline"),
            place.file("second.toml").display()
        ));
        assert_eq!(output.status.code(), Some(1));
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(
            said.contains("cannot listen on 127.0.0.1:5060 over ")
                && said.contains("end the other program that listens there"),
            "{said}"
        );
    }

    #[test]
    fn a_second_daemon_ends_before_it_takes_anything_from_the_first() {
        let place = Place::new("edge-second");
        place.configure("");
        let _first = place.start(&["--xdp", "off"]);
        let output = place.shell(&format!(
            "{} run --xdp off --config {}",
            env!("CARGO_BIN_EXE_trunkline"),
            place.file("trunkline.toml").display()
        ));
        assert_eq!(output.status.code(), Some(1));
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(
            said.contains("another daemon serves the admin socket")
                && !said.contains("steering of ports"),
            "{said}"
        );
        assert_eq!(place.ask("stats")["phase"], "ready");
    }

    /// Octets without a pattern, the same every time.
    fn noise(seed: u32, length: usize) -> Vec<u8> {
        let mut state = seed.wrapping_mul(2_654_435_761) | 1;
        (0..length)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 17;
                state ^= state << 5;
                (state >> 24) as u8
            })
            .collect()
    }

    #[test]
    fn damaged_input_is_counted_and_the_daemon_goes_on() {
        let place = Place::new("edge-noise");
        place.configure("");
        let daemon = place.start(&["--xdp", "off"]);
        let options = "OPTIONS sip:127.0.0.1 SIP/2.0\r\n\
            Via: SIP/2.0/UDP 127.0.0.1:5999;branch=z9hG4bKa\r\nMax-Forwards: 70\r\n\
            From: <sip:a@127.0.0.1>;tag=a\r\nTo: <sip:127.0.0.1>\r\nCall-ID: a\r\n\
            CSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n";
        let total = |place: &Place| -> u64 {
            place.ask("stats")["discarded"]
                .as_array()
                .unwrap()
                .iter()
                .map(|count| count["count"].as_u64().unwrap())
                .sum()
        };
        let mut sent = 0;
        let mut before = None;
        for round in 0..20_u32 {
            let length = 100 + round as usize * 500;
            place.send("udp", &noise(round, length));
            place.send("udp", &options.as_bytes()[..60 + round as usize]);
            place.send(
                "tcp",
                &[noise(round, length), b"\r\n\r\n".to_vec()].concat(),
            );
            sent += 3;
            // What went on before has been taken up; memory is measured after the first rounds.
            let began = Instant::now();
            while total(&place) < sent {
                assert!(
                    began.elapsed() < LIMIT,
                    "{} of {sent} counted",
                    total(&place)
                );
            }
            if round == 4 {
                before = Some(daemon.memory());
            }
        }
        assert_eq!(total(&place), sent, "each is counted once");
        let grown = daemon.memory().saturating_sub(before.unwrap());
        assert!(grown < 4 << 20, "it has grown by {grown} octets");
        assert!(place.discarded("malformed") >= 20, "the streams");
        assert!(place.get("/healthz").ends_with("ok\n"));
        assert_eq!(place.ask("stats")["connections"], 0);
    }
}
