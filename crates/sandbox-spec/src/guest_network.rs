//! The addresses of the network between guest and gateway. The IPv4 ones are
//! those of QEMU's own user network, which guests are used to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::{Ipv4Net, Ipv6Net};

/// The guest's NIC.
pub const GUEST_MAC: [u8; 6] = [0x52, 0x54, 0x00, 0x12, 0x34, 0x56];

/// The gateway, whatever address it is spoken to by.
pub const GATEWAY_MAC: [u8; 6] = [0x52, 0x55, 0x0a, 0x00, 0x02, 0x02];

/// The largest IP packet on the wire, in bytes. Nothing is ever on a real wire,
/// and each frame costs an emulated guest much more than each byte.
pub const MTU: u16 = 65520;

/// The IPv4 network.
pub const NETWORK: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(10, 0, 2, 0), 24);

/// The guest.
pub const GUEST: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 15);

/// The gateway; connections to it are connections to the host, if a rule
/// allows that.
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);

/// Where DNS is answered, UDP and TCP port 53.
pub const DNS: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 3);

/// Where the explicit proxy of proxy mode is.
pub const PROXY: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 100);

/// The explicit proxy's port, on [`PROXY`] and on [`GATEWAY`].
pub const PROXY_PORT: u16 = 8888;

/// The IPv6 network, of unique local addresses (RFC 4193).
pub const NETWORK6: Ipv6Net =
    Ipv6Net::new_assert(Ipv6Addr::new(0xfd00, 0x5a4d, 0xb0c5, 2, 0, 0, 0, 0), 64);

/// The gateway's IPv6 address, the twin of [`GATEWAY`].
pub const GATEWAY6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x5a4d, 0xb0c5, 2, 0, 0, 0, 2);

/// DNS by IPv6, the twin of [`DNS`].
pub const DNS6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x5a4d, 0xb0c5, 2, 0, 0, 0, 3);

/// The gateway's link-local address, from which it advertises itself.
pub const GATEWAY_LINK_LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 2);

/// What the guest is told: its address with the prefix length, its gateway,
/// its DNS server.
pub fn for_the_guest() -> String {
    format!("{GUEST}/{} {GATEWAY} {DNS}", NETWORK.prefix_len())
}

/// Whether a packet of the guest may come from here.
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

/// Whether the gateway itself answers pings there.
pub fn is_gateways(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => [GATEWAY, DNS, PROXY].contains(&address),
        IpAddr::V6(address) => [GATEWAY6, DNS6, GATEWAY_LINK_LOCAL].contains(&address),
    }
}

/// Whether this is the gateway's DNS.
pub fn is_dns(destination: SocketAddr) -> bool {
    destination.port() == 53 && [IpAddr::V4(DNS), IpAddr::V6(DNS6)].contains(&destination.ip())
}

/// Whether this is where the explicit proxy of proxy mode listens.
pub fn is_proxy(destination: SocketAddr) -> bool {
    destination.port() == PROXY_PORT
        && [IpAddr::V4(PROXY), IpAddr::V4(GATEWAY)].contains(&destination.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guest_cannot_speak_for_the_gateway_or_for_others() {
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
