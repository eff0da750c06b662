//! ICE of one leg (RFC 8445), where we are the lite agent: what checks are answered by.

use std::{fmt, net::SocketAddr};

use zeroize::Zeroizing;

/// How a leg's peer proves, and says, where it is. While a leg has this, packets are taken from and
/// sent to addresses alone that a check came from; [`super::Latching`] has no say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IceMedia {
    /// Ours, in our SDP.
    pub own: IceCredentials,
    /// Ours before the last restart (RFC 8445, section 9): as long as nothing has been nominated
    /// since, media goes on as it was.
    pub before: Option<IceCredentials>,
    /// The leg's ufrag: of several forks it says whose SDP this is.
    pub fragment: Box<str>,
    /// The address of the leg that its SDP says was nominated (`a=remote-candidates`, RFC 8839,
    /// section 5.2).
    pub chosen: Option<SocketAddr>,
    /// Where the peer was when the leg was another call's, whose pairs are forgotten.
    pub known: Option<SocketAddr>,
}

impl IceMedia {
    /// Whether the leg's peer is whom it was with `earlier`.
    pub(crate) fn continues(&self, earlier: &Self) -> bool {
        let same = self.own == earlier.own && self.fragment == earlier.fragment;
        same || self.before.as_ref() == Some(&earlier.own)
    }
}

/// A ufrag and its password (RFC 8839, section 5.4). The `Debug` form never shows the password.
#[derive(Clone, PartialEq, Eq)]
pub struct IceCredentials {
    pub fragment: Box<str>,
    pub password: Zeroizing<String>,
}

impl fmt::Debug for IceCredentials {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("IceCredentials")
            .field("fragment", &self.fragment)
            .finish_non_exhaustive()
    }
}
