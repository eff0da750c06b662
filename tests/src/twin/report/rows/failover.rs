//! What happens when a proxy refuses, is silent or breaks off.

use std::time::{Duration, Instant};

use super::{Group, Row, demand, group, observe::invites, row, stage::Stage};
use crate::{
    lab::{LabError, Party, Result, wait_until},
    twin::agent::{Mode, SOON},
};

pub(super) fn groups() -> Vec<Group> {
    vec![group("failover", refusals()), group("silence", silence())]
}

/// How long the first proxy may be left aside for what it did in an earlier row: its Retry-After
/// and an interval of OPTIONS, and some.
const AFTERMATH: Duration = Duration::from_secs(15);

/// The first proxy meets INVITEs so; gives the proxies that were tried, in order.
fn tried(stage: &Stage, mode: Mode, limit: Duration) -> Result<(Vec<Option<usize>>, Duration)> {
    let met = try_once(stage, mode, limit)?;
    if met.0.first() == Some(&Some(0)) {
        return Ok(met);
    }
    // OPTIONS may have met that mode first, and then the INVITE is not to go there.
    try_once(stage, mode, limit)
}

fn try_once(stage: &Stage, mode: Mode, limit: Duration) -> Result<(Vec<Option<usize>>, Duration)> {
    stage.wait_first(AFTERMATH)?;
    let first = stage.proxy_address(0);
    let number = stage.number("+1666");
    let mark = stage.twin.agent.mark();
    stage.twin.agent.set_mode(Some(first), mode);
    let begun = Instant::now();
    let outgoing = stage.plain_dials(&stage.carrier, Party::Carrier, &number, |_| {});
    let second = stage
        .twin
        .agent
        .wait(mark, limit, "an INVITE elsewhere", |arrival| {
            arrival.message.is_request()
                && arrival.message.method() == "INVITE"
                && arrival.link.local().map(|local| local.ip()) != Some(first)
        });
    let took = begun.elapsed();
    stage.twin.agent.set_mode(Some(first), Mode::Normal);
    drop(outgoing?);
    second?;
    let at = invites(stage, mark);
    Ok((
        at.iter()
            .map(|arrival| stage.twin.proxy_of(&arrival.link))
            .collect(),
        took,
    ))
}

fn goes_on(stage: &Stage, mode: Mode) -> Result<()> {
    let (at, _) = tried(stage, mode, SOON)?;
    demand(at.starts_with(&[Some(0), Some(1)]), || {
        format!("proxies were tried in the order {at:?}")
    })
}

/// Teams refuses a call; it is not tried again and the caller hears the status.
fn final_refusal(
    stage: &Stage,
    status: u16,
    headers: &[(&str, &str)],
) -> Result<crate::twin::message::Message> {
    let mark = stage.twin.agent.mark();
    let (mut outgoing, mut incoming) = stage.carrier_calls_teams(|_| {})?;
    incoming.respond(status, "Refused by the script", None, headers)?;
    let refusal = outgoing.refused(SOON)?;
    let tries = invites(stage, mark).len();
    demand(tries == 1, || format!("{tries} INVITEs"))?;
    demand(refusal.status() == Some(status), || {
        format!("Teams' {status} reaches the caller as {}", refusal.start)
    })?;
    Ok(refusal)
}

fn refusals() -> Vec<Row> {
    vec![
        row(
            "failover-in/503",
            "503 with Retry-After: the next proxy, and not the first again in that time",
            |stage| {
                goes_on(stage, Mode::Refuses(503))?;
                let (_outgoing, incoming) = stage.carrier_calls_teams(|_| {})?;
                let at = stage.twin.proxy_of(&incoming.arrival.link);
                demand(at == Some(1), || {
                    format!("the next call is at proxy {at:?}")
                })
            },
        ),
        row(
            "failover-in/503-closes",
            "and the connection that said so is closed",
            |stage| {
                let first = stage.proxy_address(0);
                let mark = stage.twin.agent.mark();
                tried(stage, Mode::Refuses(503), SOON)?;
                // Calls that it took came before.
                let refused = invites(stage, mark)
                    .into_iter()
                    .rfind(|arrival| arrival.link.local().map(|local| local.ip()) == Some(first))
                    .ok_or_else(|| LabError::new("the first proxy was not tried"))?;
                let closed = wait_until(SOON, || {
                    refused.link.connection().is_some_and(|it| it.is_closed())
                });
                demand(closed, || "it stays open".to_owned())
            },
        ),
        row("failover-in/603", "603 is final", |stage| {
            final_refusal(stage, 603, &[]).map(|_| ())
        }),
        row("failover-in/4xx", "4xx is final: 404, 480, 486", |stage| {
            for status in [404, 480, 486] {
                final_refusal(stage, status, &[])?;
            }
            Ok(())
        }),
        row(
            "failover-in/busy-cause",
            "486 with Q.850 34 is rewritten to 17",
            |stage| {
                let refusal = final_refusal(
                    stage,
                    486,
                    &[("Reason", "Q.850;cause=34;text=\"No circuit\"")],
                )?;
                let reason = refusal.all("Reason").collect::<Vec<_>>().join(", ");
                demand(
                    reason.contains("cause=17") && !reason.contains("cause=34"),
                    || format!("Reason: {reason:?}"),
                )
            },
        ),
        row("failover-out/408", "408 goes to the next", |stage| {
            goes_on(stage, Mode::Refuses(408))
        }),
        row("failover-out/504", "504 goes to the next", |stage| {
            goes_on(stage, Mode::Refuses(504))
        }),
        row(
            "failover-out/dropped",
            "a connection that breaks off goes to the next",
            |stage| goes_on(stage, Mode::Drops),
        ),
        row(
            "failover-out/after-ringing",
            "not after more than a 100 was received",
            |stage| {
                let mark = stage.twin.agent.mark();
                let (mut outgoing, mut incoming) = stage.carrier_calls_teams(|_| {})?;
                incoming.respond(180, "Ringing", None, &[])?;
                outgoing.wait_status(180..181, SOON)?;
                incoming.respond(503, "Service Unavailable", None, &[("Retry-After", "30")])?;
                outgoing.refused(SOON)?;
                let tries = invites(stage, mark).len();
                demand(tries == 1, || format!("{tries} INVITEs"))
            },
        ),
    ]
}

fn silence() -> Vec<Row> {
    vec![row(
        "failover-out/10-seconds",
        "no answer in 10 s goes to the next",
        |stage| {
            let (at, took) = tried(stage, Mode::Silent, Duration::from_secs(20))?;
            demand(at.starts_with(&[Some(0), Some(1)]), || {
                format!("proxies were tried in the order {at:?}")
            })?;
            demand(took <= Duration::from_secs(13), || {
                format!("it took {:.1} s", took.as_secs_f64())
            })
        },
    )]
}
