//! Calls that scripts make.

use std::{
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use super::{
    agent::{Agent, Arrival, Manner, token},
    call::{Call, uri_of},
    dialog::Dialog,
    incoming::Incoming,
    link::Link,
    media::Media,
    message::Message,
    sdp::{Description, Sdp},
    secret::Key,
    uri::Uri,
};
use crate::lab::{LabError, Result};

/// A call that we make.
#[derive(Clone, Debug)]
pub struct Invite {
    pub uri: String,
    /// From without a tag.
    pub from: String,
    pub to: String,
    /// Our Contact's URI.
    pub contact: String,
    /// Further headers, such as Record-Route and P-Asserted-Identity.
    pub headers: Vec<(String, String)>,
    /// Without an offer.
    pub offerless: bool,
    /// Changes the offer before it is sent.
    pub adjust: fn(&mut Description),
    /// A body part besides the SDP: its type and text. The body becomes multipart then.
    pub part: Option<(&'static str, String)>,
}

/// What we say of ourselves, our keys by their tags, and our media.
pub(super) type Described = (Description, Vec<(u32, Key)>, Arc<Media>);

/// Our description and keys for a new call.
pub(super) fn describe(agent: &Agent) -> Result<Described> {
    let secure = agent.shared.manner == Manner::Teams;
    let port = agent.shared.media_port.swap(0, Ordering::Relaxed);
    let place = SocketAddr::new(agent.shared.address, port);
    let media = Media::open_at(&agent.shared.door, place, secure)?;
    // Teams offers tag 0 with the short tag and tag 1 with the long one.
    let keys = if secure {
        vec![(0, Key::fresh(true)), (1, Key::fresh(false))]
    } else {
        Vec::new()
    };
    let port = media.address.port();
    let description = Description {
        address: media.address,
        secure,
        formats: if secure {
            Description::TEAMS.to_vec()
        } else {
            Description::CARRIER.to_vec()
        },
        keys: keys.iter().map(|(tag, key)| key.crypto(*tag)).collect(),
        direction: "sendrecv",
        extra: if secure {
            vec![format!("rtcp:{port}"), "rtcp-mux".to_owned()]
        } else {
            Vec::new()
        },
        sections: String::new(),
        version: 1,
    };
    Ok((description, keys, media))
}

/// A call of ours that is not answered yet. Dropping it gives it up.
pub struct Outgoing {
    agent: Agent,
    link: Link,
    pub request: Message,
    pub mark: usize,
    pub media: Arc<Media>,
    description: Description,
    keys: Vec<(u32, Key)>,
    contact: String,
    done: bool,
}

impl Agent {
    /// Sends an INVITE over a link.
    ///
    /// # Errors
    /// When it cannot be sent.
    pub fn invite(&self, link: &Link, invite: &Invite) -> Result<Outgoing> {
        let (mut description, keys, media) = describe(self)?;
        (invite.adjust)(&mut description);
        let mark = self.mark();
        let mut request = Message::request("INVITE", &invite.uri)
            .with("Via", &self.via(link))
            .with("Max-Forwards", "70")
            .with("From", &format!("{};tag={}", invite.from, token()))
            .with("To", &invite.to)
            .with("Call-ID", &token())
            .with("CSeq", "1 INVITE")
            .with("Contact", &format!("<{}>", invite.contact));
        for (name, value) in &invite.headers {
            request.push(name, value);
        }
        if !invite.offerless {
            request = match &invite.part {
                None => request.with_body("application/sdp", &description.text()),
                Some((kind, part)) => request.with("MIME-Version", "1.0").with_body(
                    "multipart/mixed;boundary=part",
                    &format!(
                        "--part\r\nContent-Type: application/sdp\r\n\r\n{}\r\n--part\r\n\
                             Content-Type: {kind}\r\nContent-ID: <target@microsoft.com>\r\n\r\n\
                             {part}\r\n--part--\r\n",
                        description.text()
                    ),
                ),
            };
        }
        self.send(link, &request)?;
        Ok(Outgoing {
            agent: self.clone(),
            link: link.clone(),
            request,
            mark,
            media,
            description,
            keys,
            contact: invite.contact.clone(),
            done: false,
        })
    }

    /// Waits for a call to a number.
    ///
    /// # Errors
    /// When none comes.
    pub fn incoming(&self, mark: usize, number: &str, limit: Duration) -> Result<Incoming> {
        let arrival = self.wait(mark, limit, &format!("an INVITE for {number}"), |arrival| {
            let message = &arrival.message;
            message.is_request()
                && message.method() == "INVITE"
                && message.to_tag().is_none()
                && Uri::parse(message.uri())
                    .and_then(|uri| uri.user)
                    .as_deref()
                    == Some(number)
        })?;
        Incoming::new(self, arrival)
    }
}

impl Agent {
    /// Takes an INVITE that was waited for.
    ///
    /// # Errors
    /// When there is no port for its media.
    pub fn take(&self, invite: Arrival) -> Result<Incoming> {
        Incoming::new(self, invite)
    }
}

impl Outgoing {
    /// Waits for a response of a range of status codes.
    ///
    /// # Errors
    /// When none comes.
    pub fn wait_status(&self, range: std::ops::Range<u16>, limit: Duration) -> Result<Arrival> {
        let branch = self.request.branch();
        self.agent.wait(
            self.mark,
            limit,
            &format!("a response from {} to {}", range.start, range.end - 1),
            |arrival| {
                arrival.message.branch() == branch
                    && arrival.message.method() == "INVITE"
                    && arrival
                        .message
                        .status()
                        .is_some_and(|status| range.contains(&status))
            },
        )
    }

    /// Every provisional response but 100 so far.
    #[must_use]
    pub fn provisionals(&self) -> Vec<Message> {
        let branch = self.request.branch();
        self.agent
            .arrivals(self.mark)
            .into_iter()
            .map(|arrival| arrival.message)
            .filter(|message| message.branch() == branch && message.method() == "INVITE")
            .filter(|message| {
                message
                    .status()
                    .is_some_and(|status| (101..200).contains(&status))
            })
            .collect()
    }

    /// Puts a provisional response's answer in force for early media.
    pub fn take_early(&self, response: &Message) {
        if let Some(sdp) = Sdp::of(&response.body) {
            self.dialog(response).take_answer(sdp);
        }
    }

    /// Cancels it.
    ///
    /// # Errors
    /// When CANCEL cannot be sent.
    pub fn cancel(&mut self, reason: Option<&str>) -> Result<()> {
        self.done = true;
        let mut cancel = Message::request("CANCEL", self.request.uri());
        for name in ["Via", "Max-Forwards", "From", "To", "Call-ID", "Route"] {
            for value in self.request.all(name) {
                cancel.push(name, value);
            }
        }
        cancel.push("CSeq", &format!("{} CANCEL", self.request.sequence()));
        if let Some(reason) = reason {
            cancel.push("Reason", reason);
        }
        self.agent.send(&self.link, &cancel)
    }

    /// Waits for the refusal.
    ///
    /// # Errors
    /// When the call is answered, or nothing comes.
    pub fn refused(&mut self, limit: Duration) -> Result<Message> {
        let last = self.wait_status(200..700, limit)?;
        self.done = true;
        if last.message.status() < Some(300) {
            let call = self.accept(last)?;
            let _ = call.bye();
            return Err(LabError::new("the call was answered, not refused"));
        }
        Ok(last.message)
    }

    /// Waits for the answer and acknowledges it.
    ///
    /// # Errors
    /// When the call is refused; the text holds the first line and Reason.
    pub fn answered(mut self, limit: Duration) -> Result<Call> {
        let last = self.wait_status(200..700, limit)?;
        self.done = true;
        if last.message.status() >= Some(300) {
            return Err(LabError::new(format!(
                "{}'s call was refused: {} {}",
                self.agent.shared.name,
                last.message.start,
                last.message.header("Reason").unwrap_or_default()
            )));
        }
        self.accept(last)
    }

    fn dialog(&self, response: &Message) -> Dialog {
        let mut routes = response.list("Record-Route");
        routes.reverse();
        Dialog {
            manner: self.agent.shared.manner,
            call_id: self.request.call_id().to_owned(),
            owns_call_id: true,
            local: self.request.header("From").unwrap_or_default().to_owned(),
            remote: response.header("To").unwrap_or_default().to_owned(),
            target: uri_of(response),
            routes,
            own_routes: self.request.list("Record-Route"),
            contact: self.contact.clone(),
            sequence: self.request.sequence(),
            link: self.link.clone(),
            description: self.description.clone(),
            keys: self.keys.clone(),
            media: Arc::clone(&self.media),
            media_target: None,
            sdp: None,
            ended: false,
            by_script: false,
        }
    }

    /// Acknowledges an answer; a second one makes a call of its own.
    ///
    /// # Errors
    /// When ACK cannot be sent.
    pub fn accept(&self, arrival: Arrival) -> Result<Call> {
        let mut dialog = self.dialog(&arrival.message);
        let is_gone = |link: &Link| link.connection().is_some_and(|it| it.is_closed());
        if is_gone(&self.link) {
            dialog.link = arrival.link.clone();
        }
        let link = dialog.link.clone();
        let mut acknowledgement = dialog.request("ACK", &self.agent.via(&link));
        let remote = Sdp::of(&arrival.message.body);
        if let Some(sdp) = remote {
            if Sdp::of(&self.request.body).is_some() {
                dialog.take_answer(sdp);
            } else if let Some(text) = dialog.answer(sdp) {
                acknowledgement = acknowledgement.with_body("application/sdp", &text);
            }
        }
        self.agent.send(&link, &acknowledgement)?;
        Ok(Call::new(&self.agent, dialog, arrival))
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        if !self.done {
            let _ = self.cancel(None);
        }
    }
}
