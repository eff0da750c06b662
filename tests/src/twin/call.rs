//! Calls as scripts make and take them.

use std::{
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use super::{
    agent::{Agent, Arrival, Manner, SOON, lock, token},
    dialog::Dialog,
    link::Link,
    media::Media,
    message::Message,
    sdp::{Crypto, Description, Sdp},
    secret::Key,
    uri::Uri,
};
use crate::lab::{LabError, Result};

/// How long an offer that crossed another waits, and how often it comes again.
const GLARE: Duration = Duration::from_millis(400);
const AGAIN: usize = 4;

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
type Described = (Description, Vec<(u32, Key)>, Arc<Media>);

/// Our description and keys for a new call.
fn describe(agent: &Agent) -> Result<Described> {
    let secure = agent.shared.manner == Manner::Teams;
    let media = Media::open(&agent.shared.door, agent.shared.address, secure)?;
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
        let mut acknowledgement = dialog.request("ACK", &self.agent.via(&self.link));
        let remote = Sdp::of(&arrival.message.body);
        if let Some(sdp) = remote {
            if Sdp::of(&self.request.body).is_some() {
                dialog.take_answer(sdp);
            } else if let Some(text) = dialog.answer(sdp) {
                acknowledgement = acknowledgement.with_body("application/sdp", &text);
            }
        }
        self.agent.send(&self.link, &acknowledgement)?;
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

/// A call to us that is not answered yet. Dropping it refuses it.
pub struct Incoming {
    agent: Agent,
    pub arrival: Arrival,
    pub media: Arc<Media>,
    /// Our description; may be changed before it is sent.
    pub description: Description,
    keys: Vec<(u32, Key)>,
    tag: String,
    /// Our Contact's URI.
    pub contact: String,
    pub record_route: Vec<String>,
    done: bool,
}

impl Incoming {
    fn new(agent: &Agent, arrival: Arrival) -> Result<Self> {
        let (description, keys, media) = describe(agent)?;
        let (contact, record_route) = match agent.shared.manner {
            Manner::Teams => (
                format!(
                    "sip:api-du-a-euwe.pstnhub.microsoft.com:443;x-i={};x-c={}/d/8",
                    token(),
                    token()
                ),
                vec!["<sip:sip-du-a-eu.pstnhub.microsoft.com:5061;transport=tls;lr>".to_owned()],
            ),
            Manner::Plain => {
                let local = arrival.link.local();
                let local = local.map_or_else(String::new, |local| local.to_string());
                (format!("sip:called@{local}"), Vec::new())
            }
        };
        Ok(Self {
            agent: agent.clone(),
            arrival,
            media,
            description,
            keys,
            tag: token(),
            contact,
            record_route,
            done: false,
        })
    }

    /// The INVITE.
    #[must_use]
    pub fn invite(&self) -> &Message {
        &self.arrival.message
    }

    /// Its offer.
    ///
    /// # Errors
    /// When it has none.
    pub fn offer(&self) -> Result<Sdp> {
        Sdp::of(&self.invite().body).ok_or_else(|| LabError::new("the INVITE holds no offer"))
    }

    fn response(&self, status: u16, reason: &str, tag: &str) -> Message {
        let mut response = Message::response(self.invite(), status, reason, tag);
        if status < 300 {
            for route in self.invite().all("Record-Route") {
                response.push("Record-Route", route);
            }
            for route in &self.record_route {
                response.push("Record-Route", route);
            }
            response.push("Contact", &format!("<{}>", self.contact));
            let dialog_allow = match self.agent.shared.manner {
                Manner::Teams => super::rules::ALLOW,
                Manner::Plain => super::agent::PLAIN_ALLOW,
            };
            response.push("Allow", dialog_allow);
        }
        response
    }

    /// Sends a response without a body, with headers of its own; `tag` for another fork than ours.
    ///
    /// # Errors
    /// When it cannot be sent.
    pub fn respond(
        &mut self,
        status: u16,
        reason: &str,
        tag: Option<&str>,
        headers: &[(&str, &str)],
    ) -> Result<()> {
        let tag = tag.unwrap_or(&self.tag).to_owned();
        let mut response = self.response(status, reason, &tag);
        for (name, value) in headers {
            response.push(name, value);
        }
        self.done |= status >= 200;
        self.agent.respond(&self.arrival, &response)
    }

    fn dialog(&self, tag: &str) -> Dialog {
        let invite = self.invite();
        let own_routes = invite.list("Record-Route");
        Dialog {
            manner: self.agent.shared.manner,
            call_id: invite.call_id().to_owned(),
            local: format!("{};tag={tag}", invite.header("To").unwrap_or_default()),
            remote: invite.header("From").unwrap_or_default().to_owned(),
            target: uri_of(invite),
            routes: own_routes,
            own_routes: self.record_route.iter().rev().cloned().collect(),
            contact: self.contact.clone(),
            sequence: 0,
            link: self.arrival.link.clone(),
            description: self.description.clone(),
            keys: self.keys.clone(),
            media: Arc::clone(&self.media),
            media_target: None,
            sdp: None,
            ended: false,
            by_script: false,
        }
    }

    /// Sends a provisional response with an answer: early media.
    ///
    /// # Errors
    /// When there is no offer to answer, or it cannot be sent.
    pub fn progress(&mut self, tag: Option<&str>, headers: &[(&str, &str)]) -> Result<()> {
        let tag = tag.unwrap_or(&self.tag).to_owned();
        let text = self
            .dialog(&tag)
            .answer(self.offer()?)
            .ok_or_else(|| LabError::new("the offer cannot be answered"))?;
        let mut response = self.response(183, "Session Progress", &tag);
        for (name, value) in headers {
            response.push(name, value);
        }
        let response = response.with_body("application/sdp", &text);
        self.agent.respond(&self.arrival, &response)
    }

    /// A 200 that another endpoint would give besides; it is not sent. Without a tag it has none.
    ///
    /// # Errors
    /// When there is no offer to answer.
    pub fn second_answer(&self, tag: &str) -> Result<Message> {
        let text = self
            .dialog(tag)
            .answer(self.offer()?)
            .ok_or_else(|| LabError::new("the offer cannot be answered"))?;
        Ok(self
            .response(200, "OK", tag)
            .with_body("application/sdp", &text))
    }

    /// Answers it and waits for the ACK, as long as Teams does.
    ///
    /// # Errors
    /// When there is nothing to answer, or no ACK comes.
    pub fn answer(self) -> Result<Call> {
        self.answer_with(None, &[], |_| {})
    }

    /// As [`Incoming::answer`], as the fork `tag`, with headers and a last change of the SDP.
    ///
    /// # Errors
    /// As there.
    pub fn answer_with(
        mut self,
        tag: Option<&str>,
        headers: &[(&str, &str)],
        change: impl FnOnce(&mut String),
    ) -> Result<Call> {
        let tag = tag.unwrap_or(&self.tag).to_owned();
        let mark = self.agent.mark();
        let mut dialog = self.dialog(&tag);
        let offer = Sdp::of(&self.invite().body);
        let was_offer = offer.is_some();
        let mut text = match offer {
            Some(offer) => dialog
                .answer(offer)
                .ok_or_else(|| LabError::new("the offer cannot be answered"))?,
            None => dialog.description.text(),
        };
        change(&mut text);
        let mut response = self.response(200, "OK", &tag);
        for (name, value) in headers {
            response.push(name, value);
        }
        self.done = true;
        let dialog = Arc::new(Mutex::new(dialog));
        self.agent.state().dialogs.push(Arc::clone(&dialog));
        let response = response.with_body("application/sdp", &text);
        self.agent.respond(&self.arrival, &response)?;
        let call_id = self.invite().call_id().to_owned();
        let sequence = self.invite().sequence();
        let acknowledged = self.agent.wait(mark, SOON, "the ACK", |arrival| {
            arrival.message.method() == "ACK"
                && arrival.message.is_request()
                && arrival.message.call_id() == call_id
                && arrival.message.sequence() == sequence
                && arrival.message.to_tag() == Some(&tag)
        })?;
        if !was_offer && let Some(answer) = Sdp::of(&acknowledged.message.body) {
            lock(&dialog).take_answer(answer);
        }
        let media = Arc::clone(&self.media);
        Ok(Call {
            agent: self.agent.clone(),
            dialog,
            media,
            opening: self.arrival.clone(),
        })
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if !self.done {
            let _ = self.respond(480, "Temporarily Unavailable", None, &[]);
        }
    }
}

/// A call that is up. Dropping it hangs up.
pub struct Call {
    pub agent: Agent,
    pub(super) dialog: Arc<Mutex<Dialog>>,
    pub media: Arc<Media>,
    /// The answer that we got, or the INVITE.
    pub opening: Arrival,
}

impl Call {
    fn new(agent: &Agent, dialog: Dialog, opening: Arrival) -> Self {
        let media = Arc::clone(&dialog.media);
        let dialog = Arc::new(Mutex::new(dialog));
        agent.state().dialogs.push(Arc::clone(&dialog));
        Self {
            agent: agent.clone(),
            dialog,
            media,
            opening,
        }
    }

    /// The other side's last description.
    ///
    /// # Errors
    /// When it has sent none.
    pub fn sdp(&self) -> Result<Sdp> {
        let sdp = lock(&self.dialog).sdp.clone();
        sdp.ok_or_else(|| LabError::new("the other side has sent no SDP"))
    }

    #[must_use]
    pub fn call_id(&self) -> String {
        lock(&self.dialog).call_id.clone()
    }

    /// Our tag and the other side's.
    #[must_use]
    pub fn tags(&self) -> [String; 2] {
        let dialog = lock(&self.dialog);
        [
            dialog.local_tag().to_owned(),
            dialog.remote_tag().to_owned(),
        ]
    }

    /// Our own description as it would be offered now.
    #[must_use]
    pub fn description_text(&self) -> String {
        lock(&self.dialog).description.text()
    }

    /// Leaves re-INVITEs to the script, or takes them back.
    pub fn answer_by_script(&self, by_script: bool) {
        lock(&self.dialog).by_script = by_script;
    }

    /// Sends the requests that follow over another link.
    pub fn go_over(&self, link: &Link) {
        lock(&self.dialog).link = link.clone();
    }

    /// Sends a request and waits for its final response.
    ///
    /// # Errors
    /// When none comes.
    pub fn request(
        &self,
        method: &str,
        headers: &[(&str, &str)],
        body: Option<(&str, &str)>,
    ) -> Result<Message> {
        let (request, link) = {
            let mut dialog = lock(&self.dialog);
            let link = dialog.link.clone();
            let mut request = dialog.request(method, &self.agent.via(&link));
            for (name, value) in headers {
                request.push(name, value);
            }
            if let Some((kind, body)) = body {
                request = request.with_body(kind, body);
            }
            (request, link)
        };
        let mark = self.agent.mark();
        self.agent.send(&link, &request)?;
        let found = self
            .agent
            .wait(mark, SOON, &format!("the answer to {method}"), |arrival| {
                arrival.message.branch() == request.branch()
                    && arrival.message.status().is_some_and(|status| status >= 200)
            })?;
        Ok(found.message)
    }

    /// Sends a new offer after changing our description, again when it crosses another, and
    /// acknowledges the answer.
    ///
    /// # Errors
    /// When it is refused.
    pub fn reinvite(
        &self,
        headers: &[(&str, &str)],
        change: impl FnOnce(&mut Description),
    ) -> Result<Message> {
        let text = {
            let mut dialog = lock(&self.dialog);
            dialog.description.version += 1;
            change(&mut dialog.description);
            dialog.description.text()
        };
        let mut response = self.request("INVITE", headers, Some(("application/sdp", &text)))?;
        for _ in 0..AGAIN {
            if response.status() != Some(491) {
                break;
            }
            // Another offer is under way: RFC 3261, section 14.1, has one wait up to two seconds.
            thread::sleep(GLARE);
            response = self.request("INVITE", headers, Some(("application/sdp", &text)))?;
        }
        self.settle(&response)?;
        Ok(response)
    }

    /// Sends a re-INVITE without an offer, and an answer in the ACK.
    ///
    /// # Errors
    /// When it is refused or no offer comes.
    pub fn reinvite_offerless(&self) -> Result<Message> {
        let response = self.request("INVITE", &[], None)?;
        if response.status() >= Some(300) {
            return Err(LabError::new(format!("refused: {}", response.start)));
        }
        let offer = Sdp::of(&response.body).ok_or_else(|| LabError::new("no offer in the 200"))?;
        let mut dialog = lock(&self.dialog);
        let link = dialog.link.clone();
        let text = dialog.answer(offer).unwrap_or_default();
        let acknowledgement = dialog
            .request("ACK", &self.agent.via(&link))
            .with_body("application/sdp", &text);
        drop(dialog);
        self.agent.send(&link, &acknowledgement)?;
        Ok(response)
    }

    fn settle(&self, response: &Message) -> Result<()> {
        if response.status() >= Some(300) {
            return Err(LabError::new(format!(
                "the new offer was refused: {} {}",
                response.start,
                response.header("Reason").unwrap_or_default()
            )));
        }
        let mut dialog = lock(&self.dialog);
        if let Some(answer) = Sdp::of(&response.body) {
            dialog.take_answer(answer);
        }
        let link = dialog.link.clone();
        let acknowledgement = dialog.request("ACK", &self.agent.via(&link));
        drop(dialog);
        self.agent.send(&link, &acknowledgement)
    }

    /// New keys for the next offer; they replace the old ones.
    pub fn renew_keys(&self) {
        let mut dialog = lock(&self.dialog);
        let keys = vec![(0, Key::fresh(true)), (1, Key::fresh(false))];
        let lines: Vec<Crypto> = keys.iter().map(|(tag, key)| key.crypto(*tag)).collect();
        dialog.description.keys = lines;
        dialog.keys = keys;
    }

    /// Hangs up.
    ///
    /// # Errors
    /// When BYE is not answered with 200.
    pub fn bye(&self) -> Result<()> {
        let already = std::mem::replace(&mut lock(&self.dialog).ended, true);
        if already {
            return Ok(());
        }
        let response = self.request("BYE", &[], None)?;
        lock(&self.dialog).end();
        if response.status() == Some(200) {
            return Ok(());
        }
        Err(LabError::new(format!("BYE: {}", response.start)))
    }

    /// Whether the other side has hung up, or we have.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        lock(&self.dialog).ended
    }

    /// Waits until the other side hangs up, and gives its BYE.
    ///
    /// # Errors
    /// When it does not.
    pub fn wait_bye(&self, limit: Duration) -> Result<Arrival> {
        let call_id = self.call_id();
        let [local, _] = self.tags();
        self.agent.wait(0, limit, "BYE", |arrival| {
            arrival.message.is_request()
                && arrival.message.method() == "BYE"
                && arrival.message.call_id() == call_id
                && arrival.message.to_tag() == Some(&local)
        })
    }

    /// Requests of a method inside the dialog that came behind a mark.
    #[must_use]
    pub fn requests(&self, mark: usize, method: &str) -> Vec<Arrival> {
        let call_id = self.call_id();
        let mut arrivals = self.agent.arrivals(mark);
        arrivals.retain(|arrival| {
            arrival.message.is_request()
                && arrival.message.method() == method
                && arrival.message.call_id() == call_id
                && arrival.message.to_tag().is_some()
        });
        arrivals
    }

    /// Waits for a request inside the dialog behind a mark.
    ///
    /// # Errors
    /// When none comes.
    pub fn wait_request(
        &self,
        mark: usize,
        method: &str,
        limit: Duration,
        is: impl Fn(&Message) -> bool,
    ) -> Result<Arrival> {
        let call_id = self.call_id();
        self.agent
            .wait(mark, limit, &format!("{method} in the call"), |arrival| {
                arrival.message.is_request()
                    && arrival.message.method() == method
                    && arrival.message.call_id() == call_id
                    && is(&arrival.message)
            })
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if !self.has_ended() {
            let mut dialog = lock(&self.dialog);
            let link = dialog.link.clone();
            let request = dialog.request("BYE", &self.agent.via(&link));
            dialog.end();
            drop(dialog);
            let _ = self.agent.send(&link, &request);
        }
        self.media.end();
    }
}

/// The URI of a message's Contact.
fn uri_of(message: &Message) -> String {
    let value = message.header("Contact").unwrap_or_default();
    match (value.find('<'), value.find('>')) {
        (Some(start), Some(end)) if start < end => value[start + 1..end].to_owned(),
        _ => value.split(';').next().unwrap_or_default().to_owned(),
    }
}
