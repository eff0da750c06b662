//! A reading of SDP that shares nothing with the engine, to judge what it writes.

/// An `m=` line and its attributes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Media {
    pub(super) media: String,
    pub(super) port: u16,
    pub(super) transport: String,
    pub(super) formats: Vec<String>,
    pub(super) attributes: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Reading {
    pub(super) origin: Vec<String>,
    pub(super) connection: String,
    pub(super) media: Vec<Media>,
}

impl Reading {
    pub(super) fn of(body: &str) -> Self {
        let mut reading = Self::default();
        for line in body.split("\r\n") {
            let Some((kind, value)) = line.split_once('=') else {
                assert_eq!(line, "", "every line has a type");
                continue;
            };
            match (kind, reading.media.last_mut()) {
                ("o", _) => reading.origin = value.split(' ').map(str::to_owned).collect(),
                ("c", None) => reading.connection = value.to_owned(),
                ("m", _) => {
                    let mut fields = value.split(' ');
                    let mut next = || fields.next().unwrap().to_owned();
                    let (media, port, transport) = (next(), next(), next());
                    reading.media.push(Media {
                        media,
                        port: port.split('/').next().unwrap().parse().unwrap(),
                        transport,
                        formats: fields.map(str::to_owned).collect(),
                        attributes: Vec::new(),
                    });
                }
                ("a", Some(media)) => media.attributes.push(value.to_owned()),
                _ => {}
            }
        }
        reading
    }

    pub(super) fn version(&self) -> u64 {
        self.origin[2].parse().unwrap()
    }

    pub(super) fn session_id(&self) -> &str {
        &self.origin[1]
    }

    /// The one stream in use.
    pub(super) fn audio(&self) -> &Media {
        let mut in_use = self.media.iter().filter(|media| media.port != 0);
        let audio = in_use.next().expect("a stream in use");
        assert_eq!(in_use.next(), None, "one stream in use");
        assert_eq!(audio.media, "audio");
        audio
    }
}

impl Media {
    pub(super) fn has(&self, attribute: &str) -> bool {
        self.attributes.iter().any(|line| line == attribute)
    }

    pub(super) fn values(&self, name: &str) -> Vec<&str> {
        self.attributes
            .iter()
            .filter_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
            .collect()
    }

    /// The one direction, or the default.
    pub(super) fn direction(&self) -> &str {
        let mut found = self.attributes.iter().filter(|line| {
            ["sendrecv", "sendonly", "recvonly", "inactive"].contains(&line.as_str())
        });
        let direction = found.next().map_or("sendrecv", String::as_str);
        assert_eq!(found.next(), None, "one direction");
        direction
    }

    /// The codec of a format, such as `pcmu/8000`.
    pub(super) fn codec(&self, format: &str) -> String {
        let mapped = self.values("rtpmap").into_iter().find_map(|line| {
            let (number, codec) = line.split_once(' ')?;
            (number == format).then(|| codec.trim_end_matches("/1").to_lowercase())
        });
        mapped.unwrap_or_else(|| {
            match format {
                "0" => "pcmu/8000",
                "8" => "pcma/8000",
                "9" => "g722/8000",
                "13" => "cn/8000",
                "18" => "g729/8000",
                other => panic!("no codec for {other}"),
            }
            .to_owned()
        })
    }

    /// Each format's number and codec, in order.
    pub(super) fn codecs(&self) -> Vec<(u8, String)> {
        self.formats
            .iter()
            .map(|format| (format.parse().unwrap(), self.codec(format)))
            .collect()
    }
}

/// Checks an answer against its offer by RFC 3264, section 6, and RFC 4568, section 5.1.
pub(super) fn assert_answers(offer: &str, answer: &str) {
    let (offer, answer) = (Reading::of(offer), Reading::of(answer));
    assert_eq!(answer.media.len(), offer.media.len(), "as many m= lines");
    let mut in_use = 0;
    for (offered, answered) in offer.media.iter().zip(&answer.media) {
        assert_eq!(answered.media, offered.media);
        assert_eq!(answered.transport, offered.transport);
        assert!(!answered.formats.is_empty());
        if answered.port == 0 {
            continue;
        }
        in_use += 1;
        assert_ne!(offered.port, 0, "a refused stream stays refused");
        let offered_codecs: Vec<(u8, String)> = offered
            .formats
            .iter()
            .filter(|number| number.parse::<u8>().is_ok())
            .filter(|number| {
                offered
                    .values("rtpmap")
                    .iter()
                    .any(|line| line.starts_with(&format!("{number} ")))
                    || ["0", "8", "9", "13", "18"].contains(&number.as_str())
            })
            .map(|number| (number.parse().unwrap(), offered.codec(number)))
            .collect();
        for codec in answered.codecs() {
            assert!(
                offered_codecs.contains(&codec),
                "{codec:?} is in {offered_codecs:?}"
            );
        }
        let allowed: &[&str] = match offered.direction() {
            "sendrecv" => &["sendrecv", "sendonly", "recvonly", "inactive"],
            "sendonly" => &["recvonly", "inactive"],
            "recvonly" => &["sendonly", "inactive"],
            _ => &["inactive"],
        };
        assert!(allowed.contains(&answered.direction()), "{allowed:?}");
        assert!(!answered.has("rtcp-mux") || offered.has("rtcp-mux"));
        let keys = answered.values("crypto");
        if answered.transport.contains("SAVP") {
            assert_eq!(keys.len(), 1);
        }
        for key in keys {
            let head = |line: &str| {
                line.split(' ')
                    .take(2)
                    .map(str::to_owned)
                    .collect::<Vec<_>>()
            };
            assert!(
                offered
                    .values("crypto")
                    .iter()
                    .any(|line| head(line) == head(key)),
                "tag and suite are of the offer"
            );
        }
    }
    assert!(in_use <= 1);
}

/// Checks what must hold of every description of ours.
pub(super) fn assert_ours(body: &str, address: &str) {
    let reading = Reading::of(body);
    assert!(body.starts_with("v=0\r\no=- ") && body.ends_with("\r\n"));
    assert!(body.contains("\r\ns=-\r\n"));
    assert_eq!(reading.origin[5], address);
    assert!(reading.connection.ends_with(address));
    let audio = reading.audio();
    let direction_written = ["sendrecv", "sendonly", "recvonly", "inactive"]
        .iter()
        .filter(|direction| audio.has(direction))
        .count();
    assert_eq!(direction_written, 1);
    let mut numbers = audio.formats.clone();
    numbers.sort();
    numbers.dedup();
    assert_eq!(numbers.len(), audio.formats.len(), "each payload type once");
    assert!(!body.contains("0.0.0.0"));
}
