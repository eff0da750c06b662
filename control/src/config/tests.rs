use std::{fmt::Write as _, fs, path::Path};

use super::*;

/// A configuration with a carrier and a contact centre. Line numbers below count on it.
const GOOD: &str = r#"[media]
ports = "20000-20099"

[[interface]]
name = "carrier0"
addresses = ["198.51.100.1"]

[[trunk]]
name = "carrier"
interface = "carrier0"
transport = "udp"
listen = "198.51.100.1:5060"
addresses = ["198.51.100.2:5060", "sip.example.com"]
allowed_sources = ["198.51.100.0/24"]

[[trunk]]
name = "contact-centre"
interface = "carrier0"
transport = "tcp"
listen = "198.51.100.1:5060"
addresses = ["198.51.100.3"]

[[route]]
from = ["carrier"]
number = "^\\+1555"
trunk = "contact-centre"

[[route]]
trunk = "carrier"
"#;

fn read(text: &str) -> Result<Settings, ConfigError> {
    parse(text, Path::new("test.toml"))
}

#[test]
fn a_good_file_is_read_into_types() {
    let settings = read(GOOD).unwrap();
    assert_eq!(settings.warnings, []);
    assert_eq!(settings.media.ports.pairs(), 50);
    let carrier = settings.trunk("carrier").unwrap();
    assert_eq!(carrier.destinations.len(), 1, "a name is not looked up");
    assert_eq!(
        settings.trunk("contact-centre").unwrap().destinations[0].address,
        "198.51.100.3:5060".parse().unwrap(),
        "the transport's own port"
    );
    let listen = "198.51.100.1:5060".parse().unwrap();
    let trunk_of = |transport, source: &str| {
        let source = source.parse().unwrap();
        let mut trunks = settings.trunks.iter();
        trunks
            .find(|trunk| trunk.speaks(transport) && trunk.listen == listen && trunk.admits(source))
            .map(|trunk| trunk.name.as_str())
    };
    assert_eq!(trunk_of(Transport::Udp, "198.51.100.77"), Some("carrier"));
    assert_eq!(trunk_of(Transport::Udp, "192.0.2.1"), None);
    assert_eq!(
        trunk_of(Transport::Tcp, "198.51.100.3"),
        Some("contact-centre")
    );
    assert_eq!(trunk_of(Transport::Tcp, "198.51.100.4"), None);
    let route = |from: &str, number: &str| {
        settings
            .route(from, number, Some("198.51.100.1"))
            .map(|route| route.trunk.as_str())
    };
    assert_eq!(route("carrier", "+15551234"), Some("contact-centre"));
    assert_eq!(route("carrier", "+4930"), Some("carrier"));
    assert_eq!(route("contact-centre", "+15551234"), Some("carrier"));
}

#[test]
fn names_resolve_to_destinations_of_the_listeners_family() {
    let settings = read(GOOD).unwrap();
    let destinations = settings.trunks[0].resolve(|question| {
        assert_eq!(question.name.as_str(), "sip.example.com");
        assert_eq!((question.port, question.is_ipv6), (None, false));
        let found = |address| Found {
            address,
            record: None,
        };
        vec![
            found((std::net::Ipv6Addr::LOCALHOST, 5060).into()),
            found(([192, 0, 2, 9], 5060).into()),
        ]
    });
    let addresses: Vec<_> = destinations
        .iter()
        .map(|destination| destination.address.to_string())
        .collect();
    assert_eq!(addresses, ["198.51.100.2:5060", "192.0.2.9:5060"]);
}

#[test]
fn addresses_may_have_a_priority_and_a_weight() {
    let ranks = |addresses: &str| {
        let text = GOOD.replace("\"198.51.100.2:5060\", \"sip.example.com\"", addresses);
        let settings = read(&text).unwrap();
        let warnings = settings.warnings.iter().map(ToString::to_string);
        let turns = settings.trunks[0].turns();
        let turns: Vec<Vec<_>> = turns
            .iter()
            .map(|turn| turn.iter().map(|(it, weight)| format!("{it} {weight}")))
            .map(Iterator::collect)
            .collect();
        (turns, warnings.collect::<Vec<_>>())
    };
    let (turns, warnings) = ranks(
        "\"a.example\", \"b.example\", { address = \"c.example:5070\", priority = 1, weight = 3 }, \
         { address = \"d.example\", priority = 0 }, { address = \"e.example\" }",
    );
    assert_eq!(warnings, [""; 0]);
    assert_eq!(
        turns,
        [
            vec!["d.example 1"],
            vec!["a.example 1", "c.example:5070 3"],
            vec!["b.example 1"],
            vec!["e.example 1"],
        ]
    );
    let (_, warnings) = ranks("\"a.example\", { address = \"b.example\", weight = 3 }");
    assert_eq!(
        warnings,
        [
            "the weight of b.example does nothing: no other address of trunk \"carrier\" has priority 2: \
             give those that share the calls the same priority"
        ]
    );
}

/// What is replaced in the good file, by what, and the error as a person reads it.
const WRONG: &[(&str, &str, &str)] = &[
    (
        "ports = \"20000-20099\"",
        "prots = \"20000-20099\"",
        "test.toml:2: unknown key `prots` in [media]: did you mean `ports`?",
    ),
    (
        "allowed_sources = [",
        "alowed_source = [",
        "test.toml:14: unknown key `alowed_source` in [[trunk]]: did you mean `allowed_sources`?",
    ),
    (
        "[media]",
        "[meida]",
        "test.toml:1: unknown key `meida` in the file: did you mean `media`?",
    ),
    (
        "[[route]]\nfrom",
        "[[route]]\nsurprise = 1\nfrom",
        "test.toml:24: unknown key `surprise` in [[route]]: remove it; [[route]] knows `from`, `number`, `host`, `trunk`, `fallback`",
    ),
    (
        "[[interface]]",
        "[interface]",
        "test.toml:4: `interface` in the file is no list of tables: write [[interface]] on a line of its own, and its keys below",
    ),
    (
        "[media]",
        "[[media]]",
        "test.toml:1: `media` in the file is no table: write [media] on a line of its own, and its keys below",
    ),
    (
        "[media]",
        "log = \"debug\"\n[media]",
        "test.toml:1: `log` in the file is no table: write [log] on a line of its own, and its keys below",
    ),
    (
        "ports = \"20000-20099\"",
        "ports = \"20000-20098\"",
        "test.toml:2: the range 20000-20098 does not consist of pairs: begin with an even port (RTP) and end with an odd one (RTCP)",
    ),
    (
        "ports = \"20000-20099\"",
        "ports = \"30000-20099\"",
        "test.toml:2: the range 30000-20099 is empty: put the lower port first",
    ),
    (
        "ports = \"20000-20099\"",
        "ports = 20000",
        "test.toml:2: invalid type: integer `20000`, expected a string: see docs/configuration.md for what belongs here",
    ),
    (
        "transport = \"udp\"",
        "transport = \"sctp\"",
        "test.toml:11: unknown variant `sctp`, expected one of `udp`, `tcp`, `tls`: see docs/configuration.md for what belongs here",
    ),
    (
        "interface = \"carrier0\"\ntransport = \"udp\"",
        "interface = \"carrier1\"\ntransport = \"udp\"",
        "test.toml:10: trunk \"carrier\" is on interface \"carrier1\", which is not described: add an [[interface]] of that name, or name one that exists",
    ),
    (
        "listen = \"198.51.100.1:5060\"\naddresses = [\"198.51.100.2:5060\", ",
        "listen = \"0.0.0.0:5060\"\naddresses = [\"198.51.100.2:5060\", ",
        "test.toml:12: trunk \"carrier\" cannot listen on 0.0.0.0:5060: name one address and port of this machine: peers are told to send to it",
    ),
    (
        "listen = \"198.51.100.1:5060\"\naddresses = [\"198.51.100.2:5060\", ",
        "listen = \"198.51.100.1:20010\"\naddresses = [\"198.51.100.2:5060\", ",
        "test.toml:12: trunk \"carrier\" listens on 198.51.100.1:20010, whose port is in [media] ports: choose a port outside the range",
    ),
    (
        "\"sip.example.com\"",
        "\"sip example\"",
        "test.toml:13: \"sip example\" is neither an address nor a host name: write \"192.0.2.1:5060\", \"[2001:db8::1]:5060\" or \"sip.example.com:5061\"",
    ),
    (
        "\"sip.example.com\"",
        "\"[2001:db8::1]:5060\"",
        "test.toml:13: [2001:db8::1]:5060 cannot be reached from 198.51.100.1:5060, which is of the other family: use addresses of one family in a trunk; a second trunk serves the other",
    ),
    (
        "\"sip.example.com\"]",
        "{ address = \"sip.example.com\", priority = 70000 }]",
        "test.toml:13: priority = 70000 of sip.example.com is out of bounds: choose 0 to 65535",
    ),
    (
        "\"sip.example.com\"]",
        "{ address = \"sip.example.com\", weight = -1 }]",
        "test.toml:13: weight = -1 of sip.example.com is out of bounds: choose 0 to 65535",
    ),
    (
        "\"sip.example.com\"]",
        "{ address = \"sip.example.com\", wieght = 1 }]",
        "test.toml:13: unknown key `wieght` in [[addresses]]: did you mean `weight`?",
    ),
    (
        "\"sip.example.com\"]",
        "{ priority = 1 }]",
        "test.toml:13: missing field `address`: see docs/configuration.md for what belongs here",
    ),
    (
        "\"sip.example.com\"]",
        "5060]",
        "test.toml:13: invalid type: integer `5060`, expected an address, such as \"192.0.2.1:5060\", or a table with address, priority and weight: see docs/configuration.md for what belongs here",
    ),
    (
        "\"sip.example.com\"]",
        "{ address = \"sip example\" }]",
        "test.toml:13: \"sip example\" is neither an address nor a host name: write \"192.0.2.1:5060\", \"[2001:db8::1]:5060\" or \"sip.example.com:5061\"",
    ),
    (
        "name = \"contact-centre\"",
        "name = \"carrier\"",
        "test.toml:17: a second [[trunk]] \"carrier\": give each trunk a name of its own",
    ),
    (
        "transport = \"tcp\"",
        "transport = \"tls\"",
        "test.toml:19: trunk \"contact-centre\" is TLS and has no certificate: add [trunk.tls] with certificate and key",
    ),
    (
        "transport = \"tcp\"\nlisten = \"198.51.100.1:5060\"\naddresses = [\"198.51.100.3\"]",
        "transport = \"udp\"\nlisten = \"198.51.100.1:5060\"\naddresses = [\"198.51.100.3\"]",
        "test.toml:16: trunks \"carrier\" and \"contact-centre\" listen on 198.51.100.1:5060 and both admit hosts of 198.51.100.0/24 and 198.51.100.3/32: nobody could tell whose call it is: give each a domain of its own, make the ranges disjoint, or let one trunk listen on another port",
    ),
    (
        "trunk = \"contact-centre\"",
        "trunk = \"contact-center\"",
        "test.toml:26: a route to \"contact-center\", and there is no such trunk: name a [[trunk]]",
    ),
    (
        "number = \"^\\\\+1555\"",
        "host = \"sbc.example.com:5060\"",
        "test.toml:25: \"sbc.example.com:5060\" is neither an address nor a host name: write \"sbc.example.com\", \"192.0.2.1\" or \"2001:db8::1\"",
    ),
    (
        "number = \"^\\\\+1555\"",
        "number = \"^+1555(\"",
        "test.toml:25: \"^+1555(\" is not a regular expression: unclosed group: correct it; a literal + is written \\\\+",
    ),
    (
        "from = [\"carrier\"]",
        "from = [\"carrier\"",
        "test.toml:25: this is not TOML: missing comma between array elements, expected `,`: correct the syntax (https://toml.io)",
    ),
    (
        "addresses = [\"198.51.100.1\"]",
        "addresses = [\"::\"]",
        "test.toml:6: :: cannot be a media address: name an address that the interface has; peers send their media to it",
    ),
    (
        "[media]",
        "[media]\nflows = 2500000",
        "test.toml:2: the kernel takes no table of 2500000 flows: choose 2 to 2400000: two for each call",
    ),
    (
        "[media]",
        "[log]\nlevel = \"warning\"\n[media]",
        "test.toml:2: \"warning\" is no level and no filter: use error, warn, info, debug or trace",
    ),
    (
        "[media]",
        "[log]\nlevel = \"\"\n[media]",
        "test.toml:2: \"\" is no level and no filter: use error, warn, info, debug or trace",
    ),
    (
        "[[interface]]",
        "[limits]\ncalls = 0\n[log]\nlevel = \"a=b=c\"\n[[interface]]",
        "test.toml:5: calls = 0 is out of bounds: choose 1 to 1000000\ntest.toml:7: \"a=b=c\" is no level and no filter: use error, warn, info, debug or trace",
    ),
];

#[test]
fn errors_name_the_line_and_say_what_to_do() {
    let mut report = String::new();
    for (from, to, expected) in WRONG {
        assert!(GOOD.contains(from), "{from}");
        let error = match read(&GOOD.replacen(from, to, 1)) {
            Ok(_) => "nothing is wrong".to_owned(),
            Err(error) => error.to_string(),
        };
        if !error
            .lines()
            .take(expected.lines().count())
            .eq(expected.lines())
        {
            let _ = writeln!(report, "{to}\n  said: {error}\n  want: {expected}");
        }
    }
    assert_eq!(report, "");
}

#[test]
fn what_could_carry_no_media_is_refused() {
    assert_eq!(
        read("").unwrap_err().to_string(),
        "test.toml: there is no [[interface]], so no call could have media: add one, with its name and addresses"
    );
}

#[test]
fn doubtful_settings_are_warned_about() {
    let text = GOOD
        .replace(
            "transport = \"udp\"",
            "transport = \"udp\"\nsrtp = \"require\"",
        )
        .replace("number = \"^\\\\+1555\"\n", "")
        + "[[route]]\nfrom = [\"carrier\"]\nnumber = \"1\"\ntrunk = \"carrier\"\n";
    let warnings: Vec<_> = read(&text)
        .unwrap()
        .warnings
        .iter()
        .map(|problem| format!("{}: {problem}", problem.line.unwrap_or(0)))
        .collect();
    assert_eq!(
        warnings,
        [
            "12: trunk \"carrier\" sends SRTP keys over udp, readable by anyone on the way: use transport = \"tls\"",
            "30: this route takes no call: an earlier one takes them all: remove it or move it up",
        ]
    );
}

#[test]
fn levels_and_filters_are_taken() {
    for level in [
        "off",
        "ERROR",
        "warn",
        "info,control::transport=debug",
        "control::daemon",
    ] {
        let text = format!("{GOOD}[log]\nlevel = \"{level}\"\n");
        assert_eq!(read(&text).unwrap().log.level, level);
    }
}

#[test]
fn certificates_are_read_and_must_fit() {
    let folder = std::env::temp_dir().join(format!("trunkline-config-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let one = rcgen::generate_simple_self_signed(["sbc.example.com".to_owned()]).unwrap();
    let other = rcgen::generate_simple_self_signed(["sbc.example.com".to_owned()]).unwrap();
    fs::write(folder.join("sbc.pem"), one.cert.pem()).unwrap();
    fs::write(folder.join("sbc.key"), one.signing_key.serialize_pem()).unwrap();
    fs::write(folder.join("other.key"), other.signing_key.serialize_pem()).unwrap();
    let text = |certificate: &str, key: &str| {
        let folder = folder.display();
        GOOD.replace(
            "transport = \"tcp\"\nlisten = \"198.51.100.1:5060\"\naddresses = [\"198.51.100.3\"]",
            &format!(
                "transport = \"tls\"\nlisten = \"198.51.100.1:5061\"\naddresses = [\"198.51.100.3\"]\n\
                 [trunk.tls]\ncertificate = \"{folder}/{certificate}\"\nkey = \"{folder}/{key}\"\nroots = \"{folder}/sbc.pem\""
            ),
        )
    };
    let good = read(&text("sbc.pem", "sbc.key")).unwrap();
    let files = TlsFiles::read(
        good.trunks[1].tls.as_ref().unwrap(),
        &mut Authorities::new(),
    )
    .unwrap();
    assert_eq!(
        format!("{files:?}"),
        "TlsFiles { certificates: 1, roots: 1, .. }"
    );
    let said = |certificate: &str, key: &str| {
        read(&text(certificate, key))
            .unwrap_err()
            .to_string()
            .replace(&folder.display().to_string(), "")
    };
    assert_eq!(
        said("missing.pem", "sbc.key"),
        "test.toml:23: no certificate in /missing.pem (No such file or directory (os error 2)): name a PEM file with certificates that this user may read"
    );
    assert_eq!(
        said("sbc.pem", "sbc.pem"),
        "test.toml:24: no private key in /sbc.pem (the file holds none): name a PEM file with an unencrypted PKCS#8, PKCS#1 or SEC1 key that this user may read"
    );
    assert!(said("sbc.pem", "other.key").starts_with(
        "test.toml:24: the key in /other.key does not serve with the certificate in /sbc.pem"
    ));
    fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn trunks_share_an_address_when_their_names_tell_them_apart() {
    let folder = std::env::temp_dir().join(format!("trunkline-tenants-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    for name in ["one", "two"] {
        let made = rcgen::generate_simple_self_signed([format!("{name}.example.com")]).unwrap();
        fs::write(folder.join(format!("{name}.pem")), made.cert.pem()).unwrap();
        fs::write(
            folder.join(format!("{name}.key")),
            made.signing_key.serialize_pem(),
        )
        .unwrap();
    }
    let begin = GOOD.find("[[trunk]]").unwrap();
    let tenant = |name: &str, domain: &str, tls: &str| {
        let folder = folder.display();
        format!(
            "[[trunk]]\nname = \"{name}\"\ninterface = \"carrier0\"\ntransport = \"tls\"\n\
             listen = \"198.51.100.1:5061\"\naddresses = [\"sip.example.net\"]\n\
             allowed_sources = [\"198.51.100.0/24\"]\n{domain}\n[trunk.tls]\n\
             certificate = \"{folder}/{name}.pem\"\nkey = \"{folder}/{name}.key\"\n\
             roots = \"{folder}/one.pem\"\n{tls}\n"
        )
    };
    let said = |one: [&str; 2], two: [&str; 2]| {
        let text = format!(
            "{}{}{}[[route]]\ntrunk = \"one\"\n",
            &GOOD[..begin],
            tenant("one", one[0], one[1]),
            tenant("two", two[0], two[1])
        );
        read(&text).map_or_else(|error| error.to_string(), |_| String::new())
    };
    let (one, two) = (
        "domain = \"one.example.com\"",
        "domain = \"two.example.com\"",
    );
    let mutual = "require_client_certificate = true";
    assert_eq!(said([one, ""], [two, ""]), "");
    assert_eq!(said([one, mutual], [two, mutual]), "");
    assert!(said([one, ""], [one, ""]).contains("with different certificates: give each a domain"));
    assert!(said([one, ""], ["", ""]).contains("nobody could tell whose call it is"));
    let other_names = format!("{mutual}\npeer_names = [\"peer.example.com\"]");
    for other in ["", &other_names] {
        assert!(
            said([one, mutual], [two, other])
                .contains("demand different certificates of those who connect: use the same"),
            "{other}"
        );
    }
    fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let said = |path| load(Path::new(path)).unwrap_err().to_string();
    assert_eq!(
        said("/nonexistent/trunkline.toml"),
        "/nonexistent/trunkline.toml: cannot be read (No such file or directory (os error 2)): \
         name a file that exists and that this user may read"
    );
    // It has no end.
    assert_eq!(
        said("/dev/zero"),
        "/dev/zero: has more than 4194304 octets: name a Trunkline configuration"
    );
}

#[test]
fn passwords_are_read_and_never_shown() {
    let directory =
        std::env::temp_dir().join(format!("trunkline-passwords-{}", std::process::id()));
    fs::create_dir_all(&directory).unwrap();
    let file = directory.join("password");
    fs::write(&file, "from the file\n").unwrap();
    let keys = |credentials: &str| {
        GOOD.replacen(
            "allowed_sources",
            &format!("credentials = {{ user = \"u\", {credentials} }}\nallowed_sources"),
            1,
        )
    };
    let path = file.display();
    for (credentials, wanted) in [
        ("password = \"swordfish\"".to_owned(), "swordfish"),
        (format!("password_file = \"{path}\""), "from the file"),
    ] {
        let settings = read(&keys(&credentials)).unwrap();
        let trunk = settings.trunk("carrier").unwrap();
        let password = trunk.credentials.as_ref().unwrap().password.as_ref();
        assert_eq!(password.unwrap().reveal(), wanted);
        assert!(!format!("{settings:?}").contains(wanted));
    }
    for (credentials, secret) in [
        (
            format!("password = \"swordfish\", password_file = \"{path}\""),
            "swordfish",
        ),
        ("password = 31415926".to_owned(), "31415926"),
        ("password = [\"swordfish\"]".to_owned(), "swordfish"),
        ("pasword = \"swordfish\"".to_owned(), "swordfish"),
        ("password = \"sword\\tfish\"".to_owned(), "fish"),
        ("password_file = \"/nonexistent\"".to_owned(), "\0"),
        ("realm = \"r\"".to_owned(), "\0"),
    ] {
        let error = read(&keys(&credentials)).unwrap_err();
        assert!(!error.to_string().contains(secret), "{error}");
        assert_eq!(error.problems.len(), 1, "{error}");
        assert_eq!(error.problems[0].line, Some(14), "{error}");
    }
    fs::remove_dir_all(&directory).unwrap();
    for (key, header) in [
        ("credentials = \"u:swordfish\"", "[trunk.credentials]"),
        (
            "authentication = [\"u:swordfish\"]",
            "[trunk.authentication]",
        ),
        (
            "authentication.user = \"u:swordfish\"",
            "[[trunk.authentication.user]]",
        ),
        (
            "authentication.user = [\"u:swordfish\"]",
            "[[trunk.authentication.user]]",
        ),
    ] {
        let text = GOOD.replacen("allowed_sources", &format!("{key}\nallowed_sources"), 1);
        let error = read(&text).unwrap_err().to_string();
        assert!(!error.contains("swordfish"), "{error}");
        assert!(
            error.starts_with("test.toml:14: ") && error.contains(header),
            "{error}"
        );
    }
}

#[test]
fn national_numbers_want_a_country() {
    let with = |keys: &str| {
        read(&GOOD.replacen("allowed_sources", &format!("{keys}\nallowed_sources"), 1))
    };
    let settings = with("numbers = { form = \"national\", country = \"49\" }").unwrap();
    let numbers = &settings.trunk("carrier").unwrap().numbers;
    assert_eq!(
        numbers.read("03012345678").as_deref(),
        Some("+493012345678")
    );
    let error = with("numbers.form = \"national\"").unwrap_err();
    assert_eq!(error.problems.len(), 1, "{error}");
    assert_eq!(error.problems[0].line, Some(14), "{error}");
}

#[test]
fn a_registration_wants_somebody_and_somewhere() {
    let with = |keys: &str| {
        let text = GOOD.replacen("allowed_sources", &format!("{keys}\nallowed_sources"), 1);
        read(&text).map(|settings| settings.trunk("carrier").unwrap().registered_user())
    };
    let named = with("registration.user = \"+4930\"").unwrap();
    assert_eq!(named.as_deref(), Some("+4930"));
    let by_credentials = "credentials.user = \"line@carrier\"\ncredentials.password = \"p\"\n";
    let derived = with(&format!("{by_credentials}registration = {{}}")).unwrap();
    assert_eq!(derived.as_deref(), Some("line"));
    for keys in [
        "registration = {}",
        "registration.user = \"a b\"",
        "registration.user = \"x\"\nregistration.expires = 1",
        "authentication = {}",
        "authentication.user = [{ name = \"a\", password = \"p\" }, { name = \"a\", password = \"q\" }]",
    ] {
        assert!(with(keys).is_err(), "{keys}");
    }
}
