//! Who calls, and who was called before.

use super::{Group, demand, group, row};
use crate::twin::uri::Uri;

pub(super) fn groups() -> Vec<Group> {
    vec![group(
        "identity",
        vec![
            row(
                "identity/asserted",
                "towards Teams From is taken from P-Asserted-Identity",
                |stage| {
                    let (_outgoing, incoming) = stage.carrier_calls_teams(|invite| {
                        let own = invite.contact.replace("+15550100", "+15550777");
                        invite
                            .headers
                            .push(("P-Asserted-Identity".to_owned(), format!("<{own}>")));
                    })?;
                    let from = incoming.invite().header("From").unwrap_or_default();
                    let user = Uri::parse(from).and_then(|uri| uri.user);
                    demand(user.as_deref() == Some("+15550777"), || {
                        format!("From: {from}")
                    })
                },
            ),
            row(
                "identity/history-info",
                "Diversion of the carrier becomes History-Info as Teams writes it",
                |stage| {
                    let (_outgoing, incoming) = stage.carrier_calls_teams(|invite| {
                        invite.headers.push((
                        "Diversion".to_owned(),
                        "<sip:+15550888@198.51.100.2;user=phone>;reason=unconditional;counter=1"
                            .to_owned(),
                    ));
                    })?;
                    let history = incoming.invite().list("History-Info").join(", ");
                    demand(
                    history.contains(
                        "<sip:+15550888@sip.pstnhub.microsoft.com;user=phone?Reason=SIP%3Bcause%3D302",
                    ) && history.contains(";index=1"),
                    || format!("History-Info: {history:?}"),
                )
                },
            ),
            row(
                "identity/diversion",
                "History-Info of Teams becomes the carrier's Diversion",
                |stage| {
                    let (_outgoing, incoming) = stage.teams_calls_carrier(|invite| {
                    invite.headers.push((
                        "History-Info".to_owned(),
                        "<sip:+15550888@sip.pstnhub.microsoft.com;user=phone?Reason=SIP%3Bcause%3D302\
                         %3Btext%3D%22Moved%20Temporarily%22>;index=1"
                            .to_owned(),
                    ));
                })?;
                    let diversion = incoming.invite().list("Diversion").join(", ");
                    demand(diversion.contains("+15550888"), || {
                        format!("Diversion: {diversion:?}")
                    })
                },
            ),
        ],
    )]
}
