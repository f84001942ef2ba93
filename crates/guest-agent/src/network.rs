//! The guest's network: one interface with a static address.

use std::net::{AddrParseError, Ipv4Addr};
use std::num::ParseIntError;
use std::str::FromStr;
use std::{fs, io};

use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SocketType};

use crate::netlink::{self, AddressList};

/// The virtio NIC. The kernel command line contains `net.ifnames=0`.
const INTERFACE: &str = "eth0";

/// A network that could not be set up or read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NetworkError {
    /// The credential does not have this form.
    #[error("invalid network `{text}`, expected `ADDRESS/PREFIX GATEWAY DNS`")]
    Form { text: String },
    /// A word of the credential is not an IPv4 address.
    #[error("invalid IPv4 address `{text}`")]
    Address {
        text: String,
        source: AddrParseError,
    },
    /// The prefix length is not a number.
    #[error("invalid prefix length `{text}`")]
    Prefix { text: String, source: ParseIntError },
    /// The interface does not exist: the NIC or its driver is missing.
    #[error("network interface `{interface}` not found")]
    NoInterface {
        interface: &'static str,
        source: io::Error,
    },
    /// The netlink socket failed.
    #[error("could not use the netlink socket")]
    Socket { source: Errno },
    /// The kernel refused a change.
    #[error("could not {step}")]
    Refused {
        step: &'static str,
        source: io::Error,
    },
}

/// The value of the credential `sandbox.network`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Network {
    /// The guest's address.
    pub(crate) address: Ipv4Addr,
    /// The number of address bits that form the network part.
    pub(crate) prefix_length: u8,
    /// The default gateway.
    pub(crate) gateway: Ipv4Addr,
    /// The name server.
    pub(crate) dns: Ipv4Addr,
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let form = || NetworkError::Form {
            text: text.trim().to_owned(),
        };
        let mut words = text.split_ascii_whitespace();
        let (Some(interface), Some(gateway), Some(dns), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return Err(form());
        };
        let (address, prefix) = interface.split_once('/').ok_or_else(form)?;
        let prefix_length = prefix.parse().map_err(|source| NetworkError::Prefix {
            text: prefix.to_owned(),
            source,
        })?;
        if prefix_length > 32 {
            return Err(form());
        }
        Ok(Self {
            address: parse_address(address)?,
            prefix_length,
            gateway: parse_address(gateway)?,
            dns: parse_address(dns)?,
        })
    }
}

fn parse_address(text: &str) -> Result<Ipv4Addr, NetworkError> {
    text.parse().map_err(|source| NetworkError::Address {
        text: text.to_owned(),
        source,
    })
}

impl Network {
    /// Returns the content of `/etc/resolv.conf` (resolv.conf(5)).
    pub(crate) fn resolv_conf(&self) -> String {
        format!("nameserver {}\n", self.dns)
    }

    /// Returns the same configuration for systemd-networkd (systemd.network(5)).
    /// It finds the interface configured and keeps it.
    pub(crate) fn networkd_file(&self) -> String {
        format!(
            "[Match]\nName={INTERFACE}\n\n\
             [Network]\nAddress={}/{}\nGateway={}\nDNS={}\n\
             KeepConfiguration=yes\n",
            self.address, self.prefix_length, self.gateway, self.dns
        )
    }
}

/// Brings up the loopback interface and, if the seed contains a network, the NIC
/// with its address and the default route.
pub(crate) fn bring_up(network: Option<&Network>) -> Result<(), NetworkError> {
    let socket = open_socket().map_err(|source| NetworkError::Socket { source })?;
    let loopback = interface_index("lo")?;
    request(
        &socket,
        "bring up the loopback interface",
        &netlink::link_up(loopback),
    )?;
    let Some(network) = network else {
        return Ok(());
    };
    let nic = interface_index(INTERFACE)?;
    for (step, message) in [
        ("bring up the network interface", netlink::link_up(nic)),
        (
            "add the address",
            netlink::add_address(nic, network.address, network.prefix_length),
        ),
        (
            "add the default route",
            netlink::add_default_route(nic, network.gateway),
        ),
    ] {
        request(&socket, step, &message)?;
    }
    Ok(())
}

/// Returns the addresses of all interfaces except the loopback interface, with
/// prefix length.
pub(crate) fn addresses() -> Result<Vec<String>, NetworkError> {
    let failed = |source| NetworkError::Socket { source };
    let loopback = interface_index("lo")?;
    let socket = open_socket().map_err(failed)?;
    rustix::io::write(&socket, &netlink::list_addresses()).map_err(failed)?;
    let mut addresses = Vec::new();
    // The upper bound of the kernel's message size (`NLMSG_GOODSIZE`,
    // `linux/netlink.h`).
    let mut buffer = vec![0_u8; 8192];
    loop {
        let (length, _) =
            rustix::net::recv(&socket, &mut buffer[..], RecvFlags::empty()).map_err(failed)?;
        let list = AddressList::parse(&buffer[..length]);
        let others = list
            .addresses
            .iter()
            .filter(|address| address.interface != loopback)
            .map(|address| format!("{}/{}", address.address, address.prefix_length));
        addresses.extend(others);
        if list.is_last || length == 0 {
            return Ok(addresses);
        }
    }
}

fn interface_index(interface: &'static str) -> Result<u32, NetworkError> {
    // Kernel documentation, `ABI/testing/sysfs-class-net`.
    let failed = |source| NetworkError::NoInterface { interface, source };
    let text = fs::read_to_string(format!("/sys/class/net/{interface}/ifindex")).map_err(failed)?;
    text.trim()
        .parse()
        .map_err(|error| failed(io::Error::new(io::ErrorKind::InvalidData, error)))
}

fn open_socket() -> Result<OwnedFd, Errno> {
    // Protocol 0 is NETLINK_ROUTE (`linux/netlink.h`).
    let socket = rustix::net::socket(AddressFamily::NETLINK, SocketType::RAW, None)?;
    rustix::net::connect(&socket, &SocketAddrNetlink::new(0, 0))?;
    Ok(socket)
}

/// Sends one message and waits for the kernel's acknowledgement.
fn request(socket: &OwnedFd, step: &'static str, message: &[u8]) -> Result<(), NetworkError> {
    let failed = |source| NetworkError::Socket { source };
    rustix::io::write(socket, message).map_err(failed)?;
    let mut buffer = [0_u8; 512];
    let (length, _) =
        rustix::net::recv(socket, &mut buffer[..], RecvFlags::empty()).map_err(failed)?;
    match netlink::answer(&buffer[..length]) {
        Some(0) => Ok(()),
        Some(code) => Err(NetworkError::Refused {
            step,
            source: io::Error::from_raw_os_error(-code),
        }),
        None => Err(failed(Errno::BADMSG)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn network_parses_the_credential() {
        let network: Network = "10.0.2.15/24 10.0.2.2  10.0.2.3\n".parse().unwrap();
        assert_eq!(
            network,
            Network {
                address: Ipv4Addr::new(10, 0, 2, 15),
                prefix_length: 24,
                gateway: Ipv4Addr::new(10, 0, 2, 2),
                dns: Ipv4Addr::new(10, 0, 2, 3),
            }
        );
        assert_eq!(network.resolv_conf(), "nameserver 10.0.2.3\n");
        assert!(network.networkd_file().contains("\nAddress=10.0.2.15/24\n"));
    }

    #[test]
    fn network_names_the_invalid_part() {
        for (text, message) in [
            (
                "",
                "invalid network ``, expected `ADDRESS/PREFIX GATEWAY DNS`",
            ),
            (
                "10.0.2.15/24 10.0.2.2",
                "invalid network `10.0.2.15/24 10.0.2.2`, expected `ADDRESS/PREFIX GATEWAY DNS`",
            ),
            (
                "10.0.2.15 1.1.1.1 1.1.1.1",
                "invalid network `10.0.2.15 1.1.1.1 1.1.1.1`, expected `ADDRESS/PREFIX GATEWAY DNS`",
            ),
            (
                "10.0.2.15/33 1.1.1.1 1.1.1.1",
                "invalid network `10.0.2.15/33 1.1.1.1 1.1.1.1`, expected `ADDRESS/PREFIX GATEWAY DNS`",
            ),
            ("10.0.2.15/x 1.1.1.1 1.1.1.1", "invalid prefix length `x`"),
            ("10.0.2/24 1.1.1.1 1.1.1.1", "invalid IPv4 address `10.0.2`"),
            ("10.0.2.15/24 a 1.1.1.1", "invalid IPv4 address `a`"),
        ] {
            let error = text.parse::<Network>().unwrap_err();
            assert_eq!(error.to_string(), message);
        }
    }
}
