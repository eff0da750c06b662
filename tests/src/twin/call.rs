//! Calls that are up, as scripts go on with them.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use rand::Rng;

use super::{
    agent::{Agent, Arrival, SOON, lock},
    dialog::Dialog,
    link::Link,
    media::Media,
    message::Message,
    sdp::{Crypto, Description, Sdp},
    secret::Key,
};
use crate::lab::{LabError, Result};

/// How often an offer that crossed another comes again.
const AGAIN: usize = 4;

/// A call that is up. Dropping it hangs up.
pub struct Call {
    pub agent: Agent,
    pub(super) dialog: Arc<Mutex<Dialog>>,
    pub media: Arc<Media>,
    /// The answer that we got, or the INVITE.
    pub opening: Arrival,
}

impl Call {
    pub(super) fn new(agent: &Agent, dialog: Dialog, opening: Arrival) -> Self {
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
            thread::sleep(self.glare());
            response = self.request("INVITE", headers, Some(("application/sdp", &text)))?;
        }
        self.settle(&response)?;
        Ok(response)
    }

    /// Refreshes the session (RFC 4028, section 10): offers once more what was offered last.
    ///
    /// # Errors
    /// When it is refused.
    pub fn refresh(&self, headers: &[(&str, &str)]) -> Result<Message> {
        self.reinvite(headers, |description| description.version -= 1)
    }

    /// How long an offer that crossed another waits (RFC 3261, section 14.1): by who made the
    /// Call-ID, so that the two do not cross again.
    fn glare(&self) -> Duration {
        let steps = if lock(&self.dialog).owns_call_id {
            rand::rng().random_range(210..=400)
        } else {
            rand::rng().random_range(0..=200)
        };
        Duration::from_millis(10 * steps)
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

    /// The key that the other side expects of us.
    ///
    /// # Errors
    /// When it has chosen none.
    pub fn key(&self) -> Result<Key> {
        let chosen = self.sdp()?.keys().first().map(|chosen| chosen.tag);
        let dialog = lock(&self.dialog);
        let mut keys = dialog.keys.iter();
        let known = keys.find(|(tag, _)| Some(*tag) == chosen);
        known
            .map(|(_, key)| key.clone())
            .ok_or_else(|| LabError::new("the other side has chosen no key of ours"))
    }

    /// New keys for the next offer; they replace the old ones.
    pub fn renew_keys(&self) {
        let mut dialog = lock(&self.dialog);
        let keys = vec![(0, Key::fresh(true)), (1, Key::fresh(false))];
        let lines: Vec<Crypto> = keys.iter().map(|(tag, key)| key.crypto(*tag)).collect();
        dialog.description.keys = lines;
        dialog.keys = keys;
    }

    /// With the next offer another endpoint of ours has the call, with keys of its own: it sends
    /// where the answer says.
    pub fn change_endpoint(&self) {
        self.renew_keys();
        lock(&self.dialog).media_target = None;
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

    /// Requests of a method inside the dialog that came behind a mark, each once however often it
    /// was sent again.
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
        let mut known = HashSet::new();
        arrivals.retain(|arrival| known.insert(arrival.message.branch().to_owned()));
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
pub(super) fn uri_of(message: &Message) -> String {
    let value = message.header("Contact").unwrap_or_default();
    match (value.find('<'), value.find('>')) {
        (Some(start), Some(end)) if start < end => value[start + 1..end].to_owned(),
        _ => value.split(';').next().unwrap_or_default().to_owned(),
    }
}
