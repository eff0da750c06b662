//! Names of trunks' addresses, looked up in DNS: SRV, then A or AAAA (RFC 3263 §4.2).
//!
//! NAPTR is not asked for, since the configuration says which transport a trunk has.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use hickory_resolver::{
    TokioResolver,
    config::ResolverOpts,
    net::NetError,
    proto::rr::{Name, RData, RecordType, rdata::SRV},
};
use tokio::{net::lookup_host, task::JoinSet, time::timeout};

use crate::config::{Found, PortRange, Question, Rank, Settings, Transport};

/// How long one answer may take.
const LOOKUP: Duration = Duration::from_secs(5);
/// How long one server has for it before it, or the next one, is asked again.
const ATTEMPT: Duration = Duration::from_secs(2);
/// However short its TTL is, an answer is used for so long.
const LEAST: Duration = Duration::from_secs(5);
/// However long its TTL is, an answer is asked for again after so long.
const MOST: Duration = Duration::from_secs(300);
/// How long a name that only the system knows is taken to mean the same.
const SYSTEM: Duration = Duration::from_secs(60);
/// When a lookup that failed is tried again.
const RETRY: Duration = Duration::from_secs(15);
/// As many SRV records of a name are used, and as many addresses.
const RECORDS: usize = 64;

/// What names were last known to stand for.
#[derive(Clone, Debug, Default)]
pub struct Lookups(HashMap<Question, Answer>);

#[derive(Clone, Debug)]
struct Answer {
    found: Vec<Found>,
    /// The addresses of the hosts that SRV records name, by their names.
    hosts: BTreeMap<String, Vec<IpAddr>>,
    /// When it is to be asked for again.
    until: Instant,
}

impl Lookups {
    /// What a name is known to stand for.
    #[must_use]
    pub fn get(&self, question: &Question) -> Vec<Found> {
        let answer = self.0.get(question);
        answer
            .map(|answer| answer.found.clone())
            .unwrap_or_default()
    }

    /// Whether names stand for the same in both.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        self.0.len() == other.0.len()
            && self.0.iter().all(|(question, answer)| {
                let known = other.0.get(question);
                known.is_some_and(|known| known.found == answer.found)
            })
    }

    /// When the first answer is to be asked for again; `None` without names.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        self.0.values().map(|answer| answer.until).min()
    }

    /// Leaves what is due for a while, when a round of lookups has come to nothing.
    pub fn postpone(&mut self, now: Instant) {
        for answer in self.0.values_mut() {
            answer.until = answer.until.max(now + RETRY);
        }
    }

    /// Those that need not be asked for again yet.
    #[must_use]
    pub fn fresh(&self, now: Instant) -> Self {
        let fresh = self.0.iter().filter(|(_, answer)| answer.until > now);
        Self(
            fresh
                .map(|(it, answer)| (it.clone(), answer.clone()))
                .collect(),
        )
    }
}

/// Looks up every name that the trunks' addresses hold and that is not `fresh`. A name that cannot
/// be looked up keeps what `known` has of it; names that are no longer used are left out.
pub async fn resolve(settings: &Settings, known: &Lookups, fresh: &Lookups) -> Lookups {
    look_up_all(&Dns::system(settings.media.ports), settings, known, fresh).await
}

async fn look_up_all(dns: &Dns, settings: &Settings, known: &Lookups, fresh: &Lookups) -> Lookups {
    let mut tasks = JoinSet::new();
    let mut results = HashMap::new();
    let questions = settings.trunks.iter().flat_map(|trunk| trunk.questions());
    for question in questions.collect::<HashSet<_>>() {
        if let Some(answer) = fresh.0.get(&question) {
            results.insert(question, answer.clone());
            continue;
        }
        let (dns, known) = (dns.clone(), known.0.get(&question).cloned());
        let kept = Answer {
            until: Instant::now() + RETRY,
            ..known.clone().unwrap_or_else(Answer::nothing)
        };
        results.insert(question.clone(), kept);
        tasks.spawn(async move {
            let answer = look_up(&dns, &question, known.as_ref()).await;
            (question, answer)
        });
    }
    while let Some(joined) = tasks.join_next().await {
        match joined {
            Ok((question, Ok(answer))) => {
                results.insert(question, answer);
            }
            Ok((question, Err(why))) => {
                tracing::warn!(name = %question.name, why, "a trunk's address could not be looked up; what is known of it stays");
            }
            Err(error) => tracing::warn!(%error, "a lookup ended early"),
        }
    }
    Lookups(results)
}

impl Answer {
    fn nothing() -> Self {
        Self {
            found: Vec::new(),
            hosts: BTreeMap::new(),
            until: Instant::now(),
        }
    }

    fn new(found: Vec<Found>, hosts: BTreeMap<String, Vec<IpAddr>>, ttl: Duration) -> Self {
        Self {
            found,
            hosts,
            until: Instant::now() + ttl.clamp(LEAST, MOST),
        }
    }
}

/// Looks up one name as RFC 3263 §4.2 has it: SRV where no port is given, A or AAAA where there is
/// one or no SRV record.
async fn look_up(dns: &Dns, question: &Question, known: Option<&Answer>) -> Result<Answer, String> {
    let mut longest = MOST;
    if question.port.is_none() {
        match dns.services(&service(question)).await {
            Ok(Some((records, ttl))) => return targets(dns, question, known, records, ttl).await,
            Ok(None) => {}
            // There were records, and there may still be some.
            Err(why)
                if known.is_some_and(|known| known.found.iter().any(|it| it.record.is_some())) =>
            {
                return Err(why);
            }
            // Servers that do not know SRV at all say so in many ways.
            Err(why) => {
                tracing::debug!(name = %question.name, why, "no SRV records could be asked for");
                longest = RETRY;
            }
        }
    }
    let port = question.port.unwrap_or(question.transport.default_port());
    let name = question.name.as_str();
    let (addresses, ttl) = match dns.addresses(name, question.is_ipv6).await {
        Ok(found) => found,
        Err(DnsFailure::Unknown(why)) => system(name, question.is_ipv6).await.ok_or(why)?,
        Err(DnsFailure::Other(why)) => return Err(why),
    };
    let found = addresses.into_iter().map(|address| Found {
        address: SocketAddr::new(address, port),
        record: None,
    });
    Ok(Answer::new(
        found.collect(),
        BTreeMap::new(),
        ttl.min(longest),
    ))
}

/// The addresses of the hosts that SRV records name.
async fn targets(
    dns: &Dns,
    question: &Question,
    known: Option<&Answer>,
    mut records: Vec<SRV>,
    mut ttl: Duration,
) -> Result<Answer, String> {
    // RFC 2782: a target of "." says that there is no such service.
    records.retain(|record| !record.target.is_root());
    // One order, whatever the server's.
    records.sort_by(|one, other| {
        let rank = |it: &SRV| (it.priority, std::cmp::Reverse(it.weight), it.port);
        rank(one)
            .cmp(&rank(other))
            .then_with(|| one.target.cmp(&other.target))
    });
    records.dedup();
    if records.is_empty() {
        return Ok(Answer::new(Vec::new(), BTreeMap::new(), ttl));
    }
    cut(&mut records, question.name.as_str());
    let mut hosts = BTreeMap::new();
    let mut tasks = JoinSet::new();
    for name in records.iter().map(|record| record.target.to_ascii()) {
        let is_new = hosts.insert(name.clone(), Vec::new()).is_none();
        if is_new {
            let (dns, is_ipv6) = (dns.clone(), question.is_ipv6);
            tasks.spawn(async move {
                let found = dns.addresses(&name, is_ipv6).await;
                (name, found)
            });
        }
    }
    while let Some(joined) = tasks.join_next().await {
        match joined {
            Ok((name, Ok((addresses, time)))) => {
                ttl = ttl.min(time);
                hosts.insert(name, addresses);
            }
            Ok((name, Err(DnsFailure::Unknown(why) | DnsFailure::Other(why)))) => {
                let kept = known.and_then(|known| known.hosts.get(&name));
                tracing::warn!(name = %question.name, target = name, why, "the target of an SRV record could not be looked up; what is known of it stays");
                ttl = ttl.min(RETRY);
                hosts.insert(name, kept.cloned().unwrap_or_default());
            }
            Err(error) => tracing::warn!(%error, "a lookup ended early"),
        }
    }
    let mut found: Vec<Found> = Vec::new();
    for (place, record) in (0..).zip(&records) {
        let addresses = hosts.get(&record.target.to_ascii()).into_iter().flatten();
        for ip in addresses {
            let address = SocketAddr::new(*ip, record.port);
            if record.port != 0 && !found.iter().any(|it| it.address == address) {
                found.push(Found {
                    address,
                    record: Some(Rank {
                        priority: record.priority,
                        weight: record.weight,
                        place,
                    }),
                });
            }
        }
    }
    cut(&mut found, question.name.as_str());
    if found.is_empty() {
        return Err("no target of its SRV records has an address".to_owned());
    }
    Ok(Answer::new(found, hosts, ttl))
}

/// The addresses of a host in one order, whatever the server's: a change is then a change.
fn settled(mut addresses: Vec<IpAddr>, name: &str) -> Vec<IpAddr> {
    addresses.sort_unstable();
    addresses.dedup();
    cut(&mut addresses, name);
    addresses
}

/// Leaves out of an answer what is more than is used: each address may be asked by OPTIONS.
fn cut<T>(answer: &mut Vec<T>, name: &str) {
    if answer.len() > RECORDS {
        let records = answer.len();
        tracing::warn!(
            name,
            records,
            used = RECORDS,
            "DNS has more of it than is used"
        );
        answer.truncate(RECORDS);
    }
}

/// The name of the SRV records (RFC 3263 §4.2, RFC 3261 §26.2.2).
fn service(question: &Question) -> String {
    let prefix = match question.transport {
        Transport::Udp => "_sip._udp",
        Transport::Tcp => "_sip._tcp",
        Transport::Tls => "_sips._tcp",
    };
    format!("{prefix}.{}.", question.name)
}

/// As the system's own means have it: also by what is not DNS, such as mDNS.
async fn system(name: &str, is_ipv6: bool) -> Option<(Vec<IpAddr>, Duration)> {
    let found = timeout(LOOKUP, lookup_host((name, 0))).await.ok()?.ok()?;
    let addresses: Vec<IpAddr> = found
        .map(|address| address.ip())
        .filter(|address| address.is_ipv6() == is_ipv6)
        .collect();
    (!addresses.is_empty()).then(|| (settled(addresses, name), SYSTEM))
}

/// The servers in /etc/resolv.conf and the names in /etc/hosts, as they are now.
#[derive(Clone)]
struct Dns(Option<TokioResolver>);

enum DnsFailure {
    /// DNS has no such address.
    Unknown(String),
    Other(String),
}

impl Dns {
    fn system(media: PortRange) -> Self {
        let built = TokioResolver::builder_tokio().and_then(|mut builder| {
            bound(builder.options_mut(), media);
            builder.build()
        });
        Self(
            built
                .inspect_err(|error| tracing::debug!(%error, "DNS cannot be asked"))
                .ok(),
        )
    }

    /// The SRV records of a name, and how long they hold; `None` when there are none.
    async fn services(&self, name: &str) -> Result<Option<(Vec<SRV>, Duration)>, String> {
        let records = self.records(name, RecordType::SRV, |data| match data {
            RData::SRV(record) => Some(record.clone()),
            _ => None,
        });
        match records.await {
            Ok(found) => Ok(Some(found)),
            Err(DnsFailure::Unknown(_)) => Ok(None),
            Err(DnsFailure::Other(why)) => Err(why),
        }
    }

    /// The addresses of a host, and how long they hold.
    async fn addresses(
        &self,
        name: &str,
        is_ipv6: bool,
    ) -> Result<(Vec<IpAddr>, Duration), DnsFailure> {
        let kind = if is_ipv6 {
            RecordType::AAAA
        } else {
            RecordType::A
        };
        let (addresses, ttl) = self.records(name, kind, RData::ip_addr).await?;
        Ok((settled(addresses, name), ttl))
    }

    async fn records<T>(
        &self,
        name: &str,
        kind: RecordType,
        take: impl Fn(&RData) -> Option<T>,
    ) -> Result<(Vec<T>, Duration), DnsFailure> {
        let Some(resolver) = &self.0 else {
            return Err(DnsFailure::Unknown("there is no server to ask".to_owned()));
        };
        let name = Name::from_ascii(name).map_err(|error| DnsFailure::Other(error.to_string()))?;
        let found = timeout(LOOKUP, resolver.lookup(name, kind))
            .await
            .map_err(|_| DnsFailure::Other("no answer in time".to_owned()))?
            .map_err(failure)?;
        let records: Vec<T> = found
            .answers()
            .iter()
            .filter(|record| record.record_type() == kind)
            .filter_map(|record| take(&record.data))
            .collect();
        if records.is_empty() {
            return Err(DnsFailure::Unknown("no such record".to_owned()));
        }
        let ttl = found
            .valid_until()
            .saturating_duration_since(Instant::now());
        Ok((records, ttl))
    }
}

/// How servers are asked. What comes to a media port is led to a worker, answers too, so questions
/// leave from others.
fn bound(options: &mut ResolverOpts, media: PortRange) {
    options.timeout = options.timeout.min(ATTEMPT);
    options.avoid_local_udp_ports = Arc::new(media.range().collect());
}

fn failure(error: NetError) -> DnsFailure {
    if error.is_no_records_found() {
        DnsFailure::Unknown("DNS does not know it".to_owned())
    } else {
        DnsFailure::Other(error.to_string())
    }
}

#[cfg(test)]
mod tests;
