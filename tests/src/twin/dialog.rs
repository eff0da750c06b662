//! A dialog from one endpoint's side (RFC 3261, section 12), and its answers to new offers.

use std::{net::SocketAddr, sync::Arc};

use super::{
    agent::{Manner, PLAIN_ALLOW, token},
    link::Link,
    media::Media,
    message::{Message, parameter},
    rules::{ALLOW, Expected},
    sdp::{Description, Sdp},
    secret::Key,
};

pub(super) struct Dialog {
    pub(super) manner: Manner,
    pub(super) call_id: String,
    /// Whether we made the Call-ID.
    pub(super) owns_call_id: bool,
    /// Our From or To, with its tag.
    pub(super) local: String,
    pub(super) remote: String,
    /// The other side's Contact.
    pub(super) target: String,
    /// The Route headers of our requests.
    pub(super) routes: Vec<String>,
    /// The Route headers that the other side has to send.
    pub(super) own_routes: Vec<String>,
    /// Our Contact's URI.
    pub(super) contact: String,
    pub(super) sequence: u32,
    pub(super) link: Link,
    pub(super) description: Description,
    /// Our keys, by their tags in our last description.
    pub(super) keys: Vec<(u32, Key)>,
    pub(super) media: Arc<Media>,
    /// Where our media goes: Teams keeps to the first.
    pub(super) media_target: Option<SocketAddr>,
    /// The other side's last description.
    pub(super) sdp: Option<Sdp>,
    pub(super) ended: bool,
    /// Re-INVITEs are a script's.
    pub(super) by_script: bool,
}

impl Dialog {
    pub(super) fn local_tag(&self) -> &str {
        parameter(&self.local, "tag").unwrap_or_default()
    }

    pub(super) fn remote_tag(&self) -> &str {
        parameter(&self.remote, "tag").unwrap_or_default()
    }

    /// Whether a request that came is one of this dialog.
    pub(super) fn is_of(&self, request: &Message) -> bool {
        request.call_id() == self.call_id
            && request.to_tag() == Some(self.local_tag())
            && request.caller_tag() == self.remote_tag()
    }

    pub(super) fn expected(&self) -> Expected {
        Expected {
            target: self.contact.clone(),
            routes: self.own_routes.clone(),
            media: self.media_target,
        }
    }

    pub(super) fn end(&mut self) {
        self.ended = true;
        self.media.end();
    }

    /// A request of ours inside the dialog.
    pub(super) fn request(&mut self, method: &str, via: &str) -> Message {
        if method != "ACK" {
            self.sequence += 1;
        }
        let mut request = Message::request(method, &self.target)
            .with("Via", via)
            .with("Max-Forwards", "70")
            .with("From", &self.local)
            .with("To", &self.remote)
            .with("Call-ID", &self.call_id)
            .with("CSeq", &format!("{} {method}", self.sequence));
        for route in &self.routes {
            request.push("Route", route);
        }
        if matches!(method, "INVITE" | "REFER" | "UPDATE") {
            request.push("Contact", &format!("<{}>", self.contact));
            request.push("Allow", self.allow());
        }
        request
    }

    pub(super) const fn allow(&self) -> &'static str {
        match self.manner {
            Manner::Teams => ALLOW,
            Manner::Plain => PLAIN_ALLOW,
        }
    }

    /// Answers an INVITE inside the dialog, unless a script does.
    pub(super) fn on_invite(&mut self, request: &Message, link: &Link) -> Option<Message> {
        self.link = link.clone();
        if self.by_script {
            return None;
        }
        if let Some(body) = match Sdp::of(&request.body) {
            Some(offer) => self.answer(offer),
            // Only a plain endpoint comes so far: it offers in its answer.
            None => Some(self.description.text()),
        } {
            let mut response = Message::response(request, 200, "OK", "")
                .with("Contact", &format!("<{}>", self.contact))
                .with("Allow", self.allow());
            if let Some(timer) = request.header("Session-Expires") {
                let refresher = parameter(timer, "refresher").unwrap_or("uac");
                let seconds = timer.split(';').next().unwrap_or_default();
                response.push(
                    "Session-Expires",
                    &format!("{seconds};refresher={refresher}"),
                );
                response.push("Require", "timer");
            }
            return Some(response.with_body("application/sdp", &body));
        }
        Some(Message::response(
            request,
            488,
            "Not Acceptable Here",
            &token(),
        ))
    }

    /// Our answer to an offer, which is in force with it.
    pub(super) fn answer(&mut self, offer: Sdp) -> Option<String> {
        let audio = offer.audio()?;
        // The offerer's numbers for the codecs that are common, in its order.
        let mine = self.description.formats.clone();
        let formats: Vec<(u8, &'static str)> = audio
            .formats
            .iter()
            .filter_map(|&format| {
                let codec = audio.codec(format)?;
                let (_, name) = mine
                    .iter()
                    .find(|(_, name)| name.eq_ignore_ascii_case(codec.trim_end_matches("/1")))?;
                Some((format, *name))
            })
            .collect();
        if formats.is_empty() {
            return None;
        }
        let mut description = self.description.clone();
        description.formats = formats;
        description.version += 1;
        description.direction = match offer.direction() {
            "sendonly" => "recvonly",
            "recvonly" => "sendonly",
            "inactive" => "inactive",
            _ => "sendrecv",
        };
        if description.secure {
            let offered = offer.keys();
            let wanted = offered
                .iter()
                .find(|key| key.suite == "AES_CM_128_HMAC_SHA1_80")?;
            let key = self
                .keys
                .iter()
                .map(|(_, key)| key)
                .find(|key| key.crypto(0).suite == wanted.suite)?
                .clone();
            description.keys = vec![key.crypto(wanted.tag)];
            self.media.protect_with(&key);
            self.media.expect_key(&Key::parse(wanted)?);
        }
        self.description.version = description.version;
        let text = description.text();
        self.follow(&offer, description.direction);
        Some(text)
    }

    /// Takes the other side's answer to our offer.
    pub(super) fn take_answer(&mut self, answer: Sdp) {
        if self.description.secure
            && let Some(chosen) = answer.keys().first()
        {
            if let Some((_, key)) = self.keys.iter().find(|(tag, _)| *tag == chosen.tag) {
                self.media.protect_with(key);
            }
            if let Some(key) = Key::parse(chosen) {
                self.media.expect_key(&key);
            }
        }
        let direction = self.description.direction;
        self.follow(&answer, direction);
    }

    /// Sends media where a description wants it, or not at all. `direction` is our own.
    fn follow(&mut self, remote: &Sdp, direction: &str) {
        let wanted = remote.audio_target();
        if self.manner == Manner::Plain || self.media_target.is_none() {
            self.media_target = wanted;
        }
        let hears = matches!(remote.direction(), "sendrecv" | "recvonly");
        let speaks = matches!(direction, "sendrecv" | "sendonly");
        let format = remote
            .audio()
            .and_then(|audio| {
                let formats = &audio.formats;
                let known = formats
                    .iter()
                    .find(|&&format| format == self.media.format());
                known.or(formats.first()).copied()
            })
            .unwrap_or(0);
        let target = self
            .media_target
            .filter(|target| hears && speaks && !target.ip().is_unspecified());
        self.media.send_to(target, format);
        self.sdp = Some(remote.clone());
    }
}
