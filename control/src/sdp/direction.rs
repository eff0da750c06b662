//! The direction attributes (RFC 3264, section 5.1; RFC 8866, section 6.7).

/// Which way media goes, seen by the side that describes itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Direction {
    #[default]
    SendReceive,
    SendOnly,
    ReceiveOnly,
    Inactive,
}

impl Direction {
    /// The direction that sends and receives as said.
    #[must_use]
    pub const fn new(sends: bool, receives: bool) -> Self {
        match (sends, receives) {
            (true, true) => Self::SendReceive,
            (true, false) => Self::SendOnly,
            (false, true) => Self::ReceiveOnly,
            (false, false) => Self::Inactive,
        }
    }

    #[must_use]
    pub const fn sends(self) -> bool {
        matches!(self, Self::SendReceive | Self::SendOnly)
    }

    #[must_use]
    pub const fn receives(self) -> bool {
        matches!(self, Self::SendReceive | Self::ReceiveOnly)
    }

    /// What is left of an answer's direction beside the offer's: nobody sends to one who does not
    /// receive (RFC 3264, section 6.1).
    #[must_use]
    pub const fn within(self, offered: Self) -> Self {
        Self::new(
            self.sends() && offered.receives(),
            self.receives() && offered.sends(),
        )
    }

    /// The attribute's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::SendReceive => "sendrecv",
            Self::SendOnly => "sendonly",
            Self::ReceiveOnly => "recvonly",
            Self::Inactive => "inactive",
        }
    }

    pub(super) fn parse(name: &str) -> Option<Self> {
        [
            Self::SendReceive,
            Self::SendOnly,
            Self::ReceiveOnly,
            Self::Inactive,
        ]
        .into_iter()
        .find(|direction| direction.name().eq_ignore_ascii_case(name))
    }
}

#[cfg(test)]
mod tests {
    use super::Direction;

    #[test]
    fn an_answer_never_sends_to_one_who_does_not_receive() {
        assert_eq!(
            Direction::SendReceive.within(Direction::SendOnly),
            Direction::ReceiveOnly
        );
        assert_eq!(
            Direction::SendOnly.within(Direction::SendOnly),
            Direction::Inactive
        );
        assert_eq!(
            Direction::SendReceive.within(Direction::Inactive),
            Direction::Inactive
        );
    }
}
