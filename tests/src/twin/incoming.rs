//! Calls that scripts take.

use std::sync::{Arc, Mutex};

use super::{
    agent::{Agent, Arrival, Manner, SOON, lock, token},
    call::{Call, uri_of},
    dialog::Dialog,
    media::Media,
    message::Message,
    outgoing::describe,
    sdp::{Description, Sdp},
    secret::Key,
};
use crate::lab::{LabError, Result};

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
    pub(super) fn new(agent: &Agent, arrival: Arrival) -> Result<Self> {
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
            owns_call_id: false,
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
