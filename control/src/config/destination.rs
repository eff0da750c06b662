//! Where calls to a trunk go: as the configuration has it, what is asked of DNS about it, and what
//! that amounts to.

use std::{fmt, net::SocketAddr, sync::Arc};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{Error, MapAccess, Visitor, value::MapAccessDeserializer},
};

use super::values::{HostName, REMEDY, TrunkAddress};
use crate::sip::Transport;

/// The weight of an address that names none.
const WEIGHT: u16 = 1;

/// One of the addresses of a trunk, with its turn among them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WeightedAddress {
    pub address: TrunkAddress,
    /// `None`: its place in the list.
    pub priority: Option<u16>,
    /// `None`: 1.
    pub weight: Option<u16>,
}

/// An address with its turn. Addresses of one priority share the calls by their weights, and one
/// of them that does not answer leaves its calls to the others before the next priority has its
/// turn.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Table {
    /// As in the list of strings.
    address: TrunkAddress,
    /// 0 to 65535; the lowest is tried first. Left out: its place in the list, from 1.
    #[serde(default)]
    priority: Option<i64>,
    /// Its share of the calls among those of its priority, 0 to 65535; those with 0 get next to
    /// none. Left out: 1.
    #[serde(default)]
    weight: Option<i64>,
}

impl WeightedAddress {
    /// Its turn, given its place in the list, counted from 0.
    pub(super) fn rank(&self, place: usize) -> Rank {
        let place = u16::try_from(place).unwrap_or(u16::MAX);
        Rank {
            priority: self.priority.unwrap_or(place.saturating_add(1)),
            weight: self.weight.unwrap_or(WEIGHT),
            place,
        }
    }
}

impl TryFrom<Table> for WeightedAddress {
    type Error = String;

    fn try_from(table: Table) -> Result<Self, String> {
        let bounded = |key: &str, value: Option<i64>| match value.map(u16::try_from) {
            None => Ok(None),
            Some(Ok(value)) => Ok(Some(value)),
            Some(Err(_)) => Err(format!(
                "{key} = {} of {} is out of bounds{REMEDY}choose 0 to 65535",
                value.unwrap_or_default(),
                table.address
            )),
        };
        Ok(Self {
            priority: bounded("priority", table.priority)?,
            weight: bounded("weight", table.weight)?,
            address: table.address,
        })
    }
}

impl<'de> Deserialize<'de> for WeightedAddress {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = WeightedAddress;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(
                    "an address, such as \"192.0.2.1:5060\", or a table with address, priority and weight",
                )
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<WeightedAddress, E> {
                Ok(WeightedAddress {
                    address: text.parse().map_err(E::custom)?,
                    priority: None,
                    weight: None,
                })
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<WeightedAddress, A::Error> {
                Table::deserialize(MapAccessDeserializer::new(map))?
                    .try_into()
                    .map_err(A::Error::custom)
            }
        }

        deserializer.deserialize_any(Either)
    }
}

impl JsonSchema for WeightedAddress {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "WeightedAddress".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [{ "type": "string" }, generator.subschema_for::<Table>()] })
    }
}

impl fmt::Display for WeightedAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address.fmt(formatter)
    }
}

/// Where something stands among its like. What is of lower priority comes first; what is of the
/// same priority is drawn by weight (RFC 2782).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Rank {
    pub priority: u16,
    pub weight: u16,
    /// Tells apart what is of the same priority.
    pub place: u16,
}

/// What DNS is asked about an address that is a name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Question {
    pub name: HostName,
    /// `None`: the one in its SRV records or, without those, the transport's own.
    pub port: Option<u16>,
    pub transport: Transport,
    /// Which family of addresses the trunk can reach.
    pub is_ipv6: bool,
}

/// One address that a name stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub address: SocketAddr,
    /// The turn of the SRV record that has led there.
    pub record: Option<Rank>,
}

/// One address that calls to a trunk go to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Destination {
    pub address: SocketAddr,
    /// The name that the peer's certificate must hold. Set exactly when the transport is TLS.
    pub server_name: Option<Arc<str>>,
    /// The turn of what stands in the configuration for it.
    pub entry: Rank,
    /// Among what the entry amounts to, the turn of the SRV record that has led there.
    pub record: Option<Rank>,
}

impl Destination {
    /// Whether it is the same peer, whatever its turn.
    #[must_use]
    pub fn is_same_peer(&self, other: &Self) -> bool {
        self.address == other.address && self.server_name == other.server_name
    }
}
