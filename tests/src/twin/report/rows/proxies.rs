//! The three proxies, OPTIONS, and the tenants' names.

use std::time::{Duration, Instant};

use super::{
    Group, Row, demand, group,
    observe::{heard, unbroken},
    row,
    security::is_served,
    stage::{CUSTOMERS, OPTIONS, SBC, Stage, StageSettings, connect, tenant_address},
    untestable,
};
use crate::{
    lab::{LabError, Result, wait_until},
    twin::{
        agent::{Arrival, SOON},
        dns::Service,
        message::Message,
        place::Twin,
        rules::{PROXIES, Rule},
        uri::Uri,
    },
};

/// How long OPTIONS are waited for: the interval, and some.
const INTERVAL: Duration = Duration::from_secs(75);

/// The proxies' names with their port.
const PORTED: &str = "\"sip.pstnhub.microsoft.com:5061\", \"sip2.pstnhub.microsoft.com:5061\", \
                      \"sip3.pstnhub.microsoft.com:5061\"";

pub(super) fn groups() -> Vec<Group> {
    vec![
        Group {
            name: "options",
            settings: StageSettings {
                options: None,
                ..StageSettings::default()
            },
            rows: options(),
        },
        group("proxies", proxies()),
        Group {
            name: "ports",
            settings: StageSettings {
                addresses: Some(PORTED),
                // Somebody's idea of how calls are to be shared.
                services: PROXIES
                    .map(|name| {
                        (
                            format!("_sips._tcp.{name}"),
                            vec![Service::tls(1, 1, PROXIES[2])],
                        )
                    })
                    .to_vec(),
                ..StageSettings::default()
            },
            rows: vec![row(
                "proxies/port",
                "port 5061 at each name, in their order, whatever SRV records there are",
                |stage| {
                    let turns = (0..3).try_for_each(|proxy| {
                        let (_outgoing, incoming) = stage.carrier_calls_teams(|_| {})?;
                        let at = stage.twin.proxy_of(&incoming.arrival.link);
                        stage.twin.set_open(proxy, false);
                        demand(at == Some(proxy), || {
                            format!("proxy {} has its turn, the call is at {at:?}", proxy + 1)
                        })
                    });
                    (0..3).for_each(|proxy| stage.twin.set_open(proxy, true));
                    turns
                },
            )],
        },
        Group {
            name: "tenants",
            settings: StageSettings {
                names: vec![SBC, "*.sbc.example.com"],
                tenants: CUSTOMERS.to_vec(),
                ..StageSettings::default()
            },
            rows: tenants(),
        },
        Group {
            name: "tenants-one-port",
            settings: StageSettings {
                names: vec![SBC, "*.sbc.example.com"],
                tenants: CUSTOMERS.to_vec(),
                one_port: true,
                ..StageSettings::default()
            },
            rows: vec![row(
                "tenant/one-port",
                "many customers behind one address and port, told apart by their names",
                |stage| answers_in_name(stage, |_| 0),
            )],
        },
    ]
}

fn proxies() -> Vec<Row> {
    vec![
        row(
            "proxies/first",
            "calls go to sip.pstnhub.microsoft.com first",
            |stage| {
                let (_outgoing, incoming) = stage.carrier_calls_teams(|_| {})?;
                let at = stage.twin.proxy_of(&incoming.arrival.link);
                demand(at == Some(0), || format!("at proxy {at:?}"))
            },
        ),
        row(
            "proxies/by-name",
            "by name, in TLS and in the Request-URI",
            |stage| {
                let (_outgoing, incoming) = stage.carrier_calls_teams(|_| {})?;
                let connection = incoming.arrival.link.connection();
                let asked = connection.and_then(|it| it.asked_for.clone());
                demand(
                    asked.as_deref().is_some_and(|name| PROXIES.contains(&name)),
                    || format!("TLS asks for {asked:?}"),
                )?;
                unbroken(&incoming.arrival, &[Rule::RequestName])
            },
        ),
        row(
            "proxies/new-connection",
            "requests in a call may come over a new connection from another proxy",
            |stage| {
                let (caller, callee) = stage.teams_to_carrier()?;
                caller.go_over(&stage.twin.connect(2, stage.sbc_tls, SBC)?);
                caller.reinvite(&[], |_| {})?;
                heard(&caller, &callee)?;
                caller.go_over(&stage.twin.connect(1, stage.sbc_tls, SBC)?);
                caller.bye()?;
                callee.wait_bye(SOON).map(|_| ())
            },
        ),
        row(
            "proxies/closed-connection",
            "a call whose connection Teams closes is answered over a new one",
            |stage| {
                let link = stage.twin.connect(0, stage.sbc_tls, SBC)?;
                let number = stage.number("+1777");
                let mark = stage.carrier.agent.mark();
                let outgoing = stage
                    .twin
                    .call(&link, &Twin::invite(&number, "+15550199", SBC))?;
                let incoming = stage.carrier.agent.incoming(mark, &number, SOON)?;
                if let Some(connection) = link.connection() {
                    connection.close();
                }
                let (caller, callee) = connect(outgoing, incoming)?;
                heard(&caller, &callee)
            },
        ),
        row(
            "proxies/second",
            "then sip2, when the first does not answer",
            |stage| {
                stage.twin.set_open(0, false);
                let call = stage.carrier_calls_teams(|_| {});
                stage.twin.set_open(0, true);
                let (_outgoing, incoming) = call?;
                let at = stage.twin.proxy_of(&incoming.arrival.link);
                demand(at == Some(1), || format!("at proxy {at:?}"))
            },
        ),
        row("proxies/third", "then sip3", |stage| {
            stage.twin.set_open(0, false);
            stage.twin.set_open(1, false);
            let call = stage.carrier_calls_teams(|_| {});
            stage.twin.set_open(0, true);
            stage.twin.set_open(1, true);
            let (_outgoing, incoming) = call?;
            let at = stage.twin.proxy_of(&incoming.arrival.link);
            demand(at == Some(2), || format!("at proxy {at:?}"))
        }),
        row(
            "proxies/none",
            "with none of them left a call is refused at once, and one that was up goes on",
            |stage| {
                stage.wait_ready()?;
                let (caller, callee) = stage.carrier_to_teams()?;
                for proxy in 0..3 {
                    stage.twin.set_open(proxy, false);
                }
                let begun = Instant::now();
                let refused = stage
                    .plain_dials(
                        &stage.carrier,
                        crate::lab::Party::Carrier,
                        &stage.number("+1666"),
                        |_| {},
                    )
                    .and_then(|mut call| call.refused(SOON));
                let heard = heard(&caller, &callee);
                for proxy in 0..3 {
                    stage.twin.set_open(proxy, true);
                }
                let refused = refused?;
                demand(refused.status().is_some_and(|it| it >= 500), || {
                    format!("after {:?}: {}", begun.elapsed(), refused.start)
                })?;
                heard
            },
        ),
        row(
            "proxies/back",
            "calls come back within one interval of OPTIONS",
            |stage| {
                // The call that finds it has its time, too.
                stage.wait_first(Duration::from_secs(OPTIONS.into()) + SOON)
            },
        ),
    ]
}

fn is_options(arrival: &Arrival) -> bool {
    arrival.message.is_request() && arrival.message.method() == "OPTIONS"
}

fn options() -> Vec<Row> {
    vec![
        row(
            "options/answered",
            "Teams' own OPTIONS get a 200 from each proxy",
            |stage| {
                for proxy in 0..3 {
                    let link = stage.twin.connect(proxy, stage.sbc_tls, SBC)?;
                    demand(is_served(stage, &link)?, || {
                        format!("none for proxy {}", proxy + 1)
                    })?;
                }
                Ok(())
            },
        ),
        row(
            "options/all-three",
            "OPTIONS go out to all three proxies",
            |stage| {
                for proxy in 0..3 {
                    own_options(stage, INTERVAL, |arrival| {
                        stage.twin.proxy_of(&arrival.link) == Some(proxy)
                    })?;
                }
                Ok(())
            },
        ),
        row(
            "options/contact",
            "their Contact holds the FQDN, over TLS, and so does From",
            |stage| {
                for arrival in all_options(stage)? {
                    unbroken(
                        &arrival,
                        &[
                            Rule::ContactMissing,
                            Rule::ContactIsAddress,
                            Rule::ContactForeign,
                            Rule::ContactScheme,
                        ],
                    )?;
                    for header in ["Contact", "From"] {
                        let named = host(&arrival.message, header);
                        demand(named == SBC, || format!("{header} holds {named:?}"))?;
                    }
                }
                Ok(())
            },
        ),
        row(
            "options/via",
            "their Via holds the FQDN and alias, their Request-URI a proxy's name",
            |stage| {
                for arrival in all_options(stage)? {
                    unbroken(
                        &arrival,
                        &[Rule::ViaName, Rule::ViaAlias, Rule::RequestName],
                    )?;
                }
                Ok(())
            },
        ),
        row(
            "options/interval",
            "at least every 180 s, at most every 60 s (T)",
            |stage| {
                let times = |proxy| -> Vec<Instant> {
                    let arrivals = stage.twin.agent.arrivals(0);
                    let at = arrivals.iter().filter(|arrival| {
                        is_options(arrival) && stage.twin.proxy_of(&arrival.link) == Some(proxy)
                    });
                    at.map(|arrival| arrival.at).collect()
                };
                own_options(stage, SOON, |_| true)?;
                // An interval of more than this cannot be told from none in the time that a report has.
                let twice = wait_until(Duration::from_secs(100), || {
                    (0..3).all(|proxy| times(proxy).len() >= 2)
                });
                demand(twice, || {
                    "within 100 s no proxy had a second OPTIONS from the SBC".to_owned()
                })?;
                for proxy in 0..3 {
                    for pair in times(proxy).windows(2) {
                        let apart = pair[1] - pair[0];
                        demand(apart >= Duration::from_secs(58), || {
                            format!("{apart:?} apart at proxy {}", proxy + 1)
                        })?;
                    }
                }
                Ok(())
            },
        ),
        row("options/no-sips", "sips: is not used anywhere", |stage| {
            let (caller, _callee) = stage.carrier_to_teams()?;
            caller.bye()?;
            let said = stage.twin.agent.arrivals(0);
            let secure = said.iter().find(|arrival| {
                String::from_utf8_lossy(&arrival.message.octets()).contains("sips:")
            });
            demand(secure.is_none(), || {
                secure.map_or(String::new(), |it| it.message.start.clone())
            })
        }),
        untestable(
            "options/healthy-3-minutes",
            "a proxy is healthy when it was heard from in the last 3 minutes",
            "the whole report has three minutes; proxies/second and proxies/back show a proxy that \
             goes and comes back",
        ),
    ]
}

/// The SBC's OPTIONS so far, from each proxy one at least.
fn all_options(stage: &Stage) -> Result<Vec<Arrival>> {
    for proxy in 0..3 {
        own_options(stage, SOON, |arrival| {
            stage.twin.proxy_of(&arrival.link) == Some(proxy)
        })?;
    }
    let mut arrivals = stage.twin.agent.arrivals(0);
    arrivals.retain(is_options);
    Ok(arrivals)
}

fn host(message: &Message, header: &str) -> String {
    let uri = message.header(header).and_then(Uri::parse);
    uri.map(|uri| uri.host).unwrap_or_default()
}

fn tenants() -> Vec<Row> {
    vec![
        row(
            "tenant/contact",
            "each customer's name is in the Contact of its calls",
            |stage| tenant_hosts(stage, "Contact"),
        ),
        row("tenant/from", "and in From", |stage| {
            tenant_hosts(stage, "From")
        }),
        row(
            "tenant/one-certificate",
            "under one wildcard certificate",
            |stage| {
                let (_outgoing, incoming) = stage.carrier_calls_teams(|_| {})?;
                unbroken(&incoming.arrival, &[Rule::ContactForeign])
            },
        ),
        row(
            "tenant/inbound",
            "a call to a customer's name is answered in that name",
            |stage| answers_in_name(stage, |index| index),
        ),
        untestable(
            "tenant/search",
            "found by the whole name, then by that less its first label",
            "Teams searches inside of itself; the names that it searches by are checked",
        ),
    ]
}

fn tenant_hosts(stage: &Stage, header: &str) -> Result<()> {
    for (prefix, name) in ["+1666", "+1667"].into_iter().zip(CUSTOMERS) {
        let number = stage.number(prefix);
        let mark = stage.twin.agent.mark();
        let _outgoing =
            stage.plain_dials(&stage.carrier, crate::lab::Party::Carrier, &number, |_| {})?;
        let incoming = stage.twin.agent.incoming(mark, &number, SOON)?;
        let found = host(incoming.invite(), header);
        demand(found == name, || {
            format!("{header} of a call of {name}'s holds {found:?}")
        })?;
    }
    Ok(())
}

/// A call to each customer's name is answered in that name; `place` says where it is taken.
fn answers_in_name(stage: &Stage, place: fn(usize) -> usize) -> Result<()> {
    for (index, name) in CUSTOMERS.into_iter().enumerate() {
        let number = stage.number("+1777");
        let mark = stage.carrier.agent.mark();
        let to = tenant_address(place(index));
        let link = stage.twin.connect(0, to, name)?;
        let mut invite = Twin::invite(&number, "+15550199", name);
        invite.uri = invite.uri.replace(":5061", &format!(":{}", to.port()));
        let outgoing = stage.twin.call(&link, &invite)?;
        let mut incoming = stage.carrier.agent.incoming(mark, &number, SOON)?;
        incoming.respond(180, "Ringing", None, &[])?;
        let ringing = outgoing.wait_status(180..200, SOON)?;
        let contact = host(&ringing.message, "Contact");
        demand(contact == name, || {
            format!("a call to {name} is answered by {contact}")
        })?;
    }
    Ok(())
}

/// Waits for OPTIONS of the SBC's own.
fn own_options(stage: &Stage, limit: Duration, is: impl Fn(&Arrival) -> bool) -> Result<Arrival> {
    let agent = &stage.twin.agent;
    agent
        .wait(0, limit, "OPTIONS", |arrival| {
            is_options(arrival) && is(arrival)
        })
        .map_err(|_| {
            LabError::new(format!(
                "the SBC has sent none within {} s",
                limit.as_secs()
            ))
        })
}
