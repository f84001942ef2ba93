//! Kinds of addresses, by IANA's special-purpose registries, the host's interfaces and the guest's
//! network.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::guest_network::{GATEWAY, GATEWAY6, NETWORK, NETWORK6};

/// The kind of an address. Each address has exactly one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AddressKind {
    /// Unicast of the internet. The ranges for documentation count as public.
    Public,
    /// A private network: RFC 1918, RFC 4193, RFC 6598.
    Private,
    /// `127.0.0.0/8`, `::1`.
    Loopback,
    /// `169.254.0.0/16`, `fe80::/10`.
    LinkLocal,
    /// Metadata services of clouds, which hand credentials to machines.
    Metadata,
    /// An address of one of the host's interfaces.
    Host,
    /// The gateway's address, which stands for the host's loopback in the guest.
    Gateway,
    /// `224.0.0.0/4`, `ff00::/8`.
    Multicast,
    /// Other addresses: the guest's network, broadcast, reserved ranges, transition mechanisms.
    Reserved,
}

/// A group of addresses, a target of rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Group {
    /// [`AddressKind::Public`].
    Public,
    /// [`AddressKind::Private`].
    Private,
    /// [`AddressKind::Loopback`] and the gateway, which stands for the host's loopback.
    Loopback,
    /// [`AddressKind::LinkLocal`].
    LinkLocal,
    /// [`AddressKind::Metadata`].
    Metadata,
    /// [`AddressKind::Host`] and the gateway.
    Host,
    /// [`AddressKind::Multicast`].
    Multicast,
}

impl Group {
    /// Every group, in the order of the documentation.
    pub const ALL: [Self; 7] = [
        Self::Public,
        Self::Private,
        Self::Loopback,
        Self::LinkLocal,
        Self::Metadata,
        Self::Host,
        Self::Multicast,
    ];

    /// Returns whether addresses of this kind belong to the group.
    pub fn contains(self, kind: AddressKind) -> bool {
        match self {
            Self::Public => kind == AddressKind::Public,
            Self::Private => kind == AddressKind::Private,
            Self::Loopback => matches!(kind, AddressKind::Loopback | AddressKind::Gateway),
            Self::LinkLocal => kind == AddressKind::LinkLocal,
            Self::Metadata => kind == AddressKind::Metadata,
            Self::Host => matches!(kind, AddressKind::Host | AddressKind::Gateway),
            Self::Multicast => kind == AddressKind::Multicast,
        }
    }

    /// Returns the group's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Private => "private",
            Self::Loopback => "loopback",
            Self::LinkLocal => "link-local",
            Self::Metadata => "metadata",
            Self::Host => "host",
            Self::Multicast => "multicast",
        }
    }
}

impl FromStr for Group {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL
            .into_iter()
            .find(|group| group.as_str() == text)
            .ok_or(())
    }
}

impl fmt::Display for Group {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// Returns the kind of `address`. `is_hosts_own` returns whether an interface of the host has it.
///
/// An IPv6 address that contains an IPv4 address (mapped, NAT64, 6to4, Teredo) has the kind of that
/// address. It is never public, since its destination depends on a translator.
pub fn classify(address: IpAddr, is_hosts_own: &dyn Fn(IpAddr) -> bool) -> AddressKind {
    let kind = match address {
        IpAddr::V4(v4) => special_v4(v4),
        IpAddr::V6(v6) => match embedded_v4(v6) {
            Some(v4) => match classify(v4.into(), is_hosts_own) {
                AddressKind::Public => AddressKind::Reserved,
                other => other,
            },
            None => special_v6(v6),
        },
    };
    let may_be_hosts = matches!(
        kind,
        AddressKind::Public | AddressKind::Private | AddressKind::LinkLocal | AddressKind::Reserved
    );
    let in_guests_network = match address {
        IpAddr::V4(v4) => NETWORK.contains(&v4),
        IpAddr::V6(v6) => NETWORK6.contains(&v6),
    };
    if may_be_hosts && !in_guests_network && is_hosts_own(address) {
        return AddressKind::Host;
    }
    kind
}

/// Classifies an address without the addresses of the host.
fn special_v4(address: Ipv4Addr) -> AddressKind {
    const METADATA: [Ipv4Addr; 5] = [
        // AWS, Azure, Google Cloud, OpenStack and most others.
        Ipv4Addr::new(169, 254, 169, 254),
        // AWS: credentials of ECS tasks and of EKS pods.
        Ipv4Addr::new(169, 254, 170, 2),
        Ipv4Addr::new(169, 254, 170, 23),
        // Alibaba Cloud, within the shared address space.
        Ipv4Addr::new(100, 100, 100, 200),
        // Azure's host agent, a public address inside each machine.
        Ipv4Addr::new(168, 63, 129, 16),
    ];
    let [first, second, third, _] = address.octets();
    match (first, second, third) {
        _ if METADATA.contains(&address) => AddressKind::Metadata,
        _ if address == GATEWAY => AddressKind::Gateway,
        _ if NETWORK.contains(&address) => AddressKind::Reserved,
        (0, ..) | (240.., ..) => AddressKind::Reserved,
        (127, ..) => AddressKind::Loopback,
        (169, 254, _) => AddressKind::LinkLocal,
        (224..=239, ..) => AddressKind::Multicast,
        (10, ..) | (172, 16..=31, _) | (192, 168, _) | (100, 64..=127, _) => AddressKind::Private,
        // Protocol assignments (RFC 6890), former 6to4 relays (RFC 7526), benchmarks (RFC 2544).
        (192, 0, 0) | (192, 88, 99) | (198, 18 | 19, _) => AddressKind::Reserved,
        _ => AddressKind::Public,
    }
}

fn special_v6(address: Ipv6Addr) -> AddressKind {
    const METADATA: [Ipv6Addr; 2] = [
        // AWS.
        Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254),
        // Google Cloud.
        Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254),
    ];
    let [first, second, third, ..] = address.segments();
    match first {
        _ if METADATA.contains(&address) => AddressKind::Metadata,
        _ if address == GATEWAY6 => AddressKind::Gateway,
        _ if NETWORK6.contains(&address) => AddressKind::Reserved,
        _ if address == Ipv6Addr::LOCALHOST => AddressKind::Loopback,
        0xff00..=0xffff => AddressKind::Multicast,
        0xfe80..=0xfebf => AddressKind::LinkLocal,
        0xfc00..=0xfdff => AddressKind::Private,
        // Protocol assignments (RFC 2928) are not global, except for port control and TURN anycast,
        // AMT, AS112, ORCHIDv2 and drone identifiers.
        0x2001 if second < 0x200 => {
            let global = matches!((second, third), (3, _) | (4, 0x112))
                || matches!(second, 0x20..=0x3f)
                || (second == 1 && matches!(address.segments(), [_, _, 0, 0, 0, 0, 0, 1..=3]));
            if global {
                AddressKind::Public
            } else {
                AddressKind::Reserved
            }
        }
        // The second range for documentation (RFC 9637).
        0x3fff if second < 0x1000 => AddressKind::Reserved,
        0x2000..=0x3fff => AddressKind::Public,
        _ => AddressKind::Reserved,
    }
}

/// Returns the IPv4 address inside an IPv6 address of a transition mechanism.
pub fn embedded_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let v4 = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    match address.segments() {
        // IPv4-compatible (RFC 4291, section 2.5.5.1), except for `::` and `::1`.
        [0, 0, 0, 0, 0, 0, high, low] if high != 0 || low > 1 => Some(v4(high, low)),
        // IPv4-mapped (section 2.5.5.2), IPv4-translated (RFC 2765).
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0, 0, 0, 0, 0xffff, 0, high, low] => {
            Some(v4(high, low))
        }
        // NAT64 (RFC 6052; RFC 8215 for the local prefix).
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x64, 0xff9b, 1, _, _, _, high, low] => {
            Some(v4(high, low))
        }
        // 6to4 (RFC 3056).
        [0x2002, high, low, ..] => Some(v4(high, low)),
        // Teredo (RFC 4380): the client's address, inverted.
        [0x2001, 0, _, _, _, _, high, low] => Some(v4(!high, !low)),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
