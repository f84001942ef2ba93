//! The addresses of the network between guest and gateway. The IPv4 addresses are those of QEMU's
//! user network, which images for QEMU expect.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::{Ipv4Net, Ipv6Net};

/// The MAC address of the guest's NIC.
pub const GUEST_MAC: [u8; 6] = [0x52, 0x54, 0x00, 0x12, 0x34, 0x56];

/// The MAC address of the gateway, for all of its IP addresses.
pub const GATEWAY_MAC: [u8; 6] = [0x52, 0x55, 0x0a, 0x00, 0x02, 0x02];

/// The maximum size of an IP packet, in bytes. No packet is on a real wire, and for an emulated
/// guest a frame costs much more than a byte.
pub const MTU: u16 = 65520;

/// The IPv4 network.
pub const NETWORK: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(10, 0, 2, 0), 24);

/// The guest's address.
pub const GUEST: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 15);

/// The gateway's address. If a rule allows it, a connection to it reaches the host.
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);

/// The address of the gateway's DNS, UDP and TCP port 53.
pub const DNS: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 3);

/// The address of the explicit proxy in proxy mode.
pub const PROXY: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 100);

/// The explicit proxy's port, on [`PROXY`] and on [`GATEWAY`].
pub const PROXY_PORT: u16 = 8888;

/// The IPv6 network, of unique local addresses (RFC 4193).
pub const NETWORK6: Ipv6Net =
    Ipv6Net::new_assert(Ipv6Addr::new(0xfd00, 0x5a4d, 0xb0c5, 2, 0, 0, 0, 0), 64);

/// The gateway's IPv6 address, the equivalent of [`GATEWAY`].
pub const GATEWAY6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x5a4d, 0xb0c5, 2, 0, 0, 0, 2);

/// The IPv6 address of the gateway's DNS, the equivalent of [`DNS`].
pub const DNS6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x5a4d, 0xb0c5, 2, 0, 0, 0, 3);

/// The gateway's link-local address, the source of its router advertisements.
pub const GATEWAY_LINK_LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 2);

/// Returns the guest's network settings: its address with the prefix length, its gateway and its
/// DNS server.
pub fn for_the_guest() -> String {
    format!("{GUEST}/{} {GATEWAY} {DNS}", NETWORK.prefix_len())
}

/// Returns whether the guest can use this source address.
pub fn is_guests(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            NETWORK.contains(&address)
                && ![GATEWAY, DNS, PROXY].contains(&address)
                && ![NETWORK.network(), NETWORK.broadcast()].contains(&address)
        }
        IpAddr::V6(address) => {
            (NETWORK6.contains(&address) && ![GATEWAY6, DNS6].contains(&address))
                || (address.is_unicast_link_local() && address != GATEWAY_LINK_LOCAL)
        }
    }
}

/// Returns whether the gateway itself answers pings to this address.
pub fn is_gateways(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => [GATEWAY, DNS, PROXY].contains(&address),
        IpAddr::V6(address) => [GATEWAY6, DNS6, GATEWAY_LINK_LOCAL].contains(&address),
    }
}

/// Returns whether this is the gateway's DNS.
pub fn is_dns(destination: SocketAddr) -> bool {
    destination.port() == 53 && [IpAddr::V4(DNS), IpAddr::V6(DNS6)].contains(&destination.ip())
}

/// Returns whether the explicit proxy of proxy mode listens at this address.
pub fn is_proxy(destination: SocketAddr) -> bool {
    destination.port() == PROXY_PORT
        && [IpAddr::V4(PROXY), IpAddr::V4(GATEWAY)].contains(&destination.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn source_address_of_gateway_or_other_network_is_not_the_guests() {
        for ours in [
            "10.0.2.15",
            "10.0.2.16",
            "fd00:5a4d:b0c5:2::15",
            "fe80::5054",
        ] {
            assert!(is_guests(ours.parse().unwrap()), "{ours}");
        }
        for others in [
            "10.0.2.2",
            "10.0.2.3",
            "10.0.2.100",
            "10.0.2.0",
            "10.0.2.255",
            "10.0.3.15",
            "127.0.0.1",
            "fd00:5a4d:b0c5:2::2",
            "fe80::2",
            "fd00:5a4d:b0c5:3::15",
            "::1",
            "::ffff:10.0.2.15",
        ] {
            assert!(!is_guests(others.parse().unwrap()), "{others}");
        }
    }
}
