//! Flows as rules see them: direction, peer, transport and port.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::address::{AddressKind, embedded_v4};
use crate::domain::DomainPattern;

/// The side that opens a flow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Direction {
    /// The guest.
    #[default]
    Out,
    /// A peer, to a published port.
    In,
}

/// The protocol that carries a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// ICMP and ICMPv6 echo.
    Icmp,
}

impl Transport {
    /// Returns the protocol's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Icmp => "icmp",
        }
    }
}

impl FromStr for Transport {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        [Self::Tcp, Self::Udp, Self::Icmp]
            .into_iter()
            .find(|transport| transport.as_str() == text)
            .ok_or(())
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// A flow's other side, with the facts that rules use.
#[derive(Debug, Clone, Copy)]
pub struct Peer {
    /// The requested address; an IPv4-mapped address in its IPv4 form.
    pub asked: IpAddr,
    /// The address that the flow reaches: the host's loopback for the gateway, else the same.
    pub reached: IpAddr,
    /// The kind of `asked`.
    pub kind: AddressKind,
}

impl Peer {
    pub(super) fn addresses(&self) -> [IpAddr; 2] {
        [self.asked, self.reached]
    }

    /// Returns the IPv4 address inside an IPv6 address of a transition mechanism.
    pub(super) fn carried(&self) -> Option<IpAddr> {
        match self.asked {
            IpAddr::V4(_) => None,
            IpAddr::V6(v6) => embedded_v4(v6).map(IpAddr::V4),
        }
    }
}

/// One flow.
pub struct Flow<'a> {
    /// From the guest, or to a published port.
    pub direction: Direction,
    /// The other side; `None` if only its name is known.
    pub peer: Option<Peer>,
    /// Returns whether the other side has a name of this pattern.
    pub named: &'a dyn Fn(&DomainPattern) -> bool,
    /// The protocol.
    pub transport: Transport,
    /// The destination port; 0 for ICMP.
    pub port: u16,
}
