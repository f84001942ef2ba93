//! Published ports, which forward from the host to the guest: the values of `--publish`.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;

use sandbox_host::hint::Hint;

use crate::policy::Transport;
use crate::text::serde_as_text;

/// Why a published port is invalid.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum PublishError {
    /// The port does not have the form `[ADDR:]HOST:GUEST[/udp]`.
    #[error("invalid published port `{0}`: expected `[ADDR:]HOST:GUEST[/udp]`")]
    Form(String),
    /// The host address is not an IPv4 address, and not an IPv6 address in brackets.
    #[error("invalid host address `{0}`")]
    Address(String),
    /// The port number is out of range.
    #[error("invalid port `{0}`")]
    Port(String),
}

impl PublishError {
    /// Returns a hint with a valid value.
    pub fn hint(&self) -> Option<Hint> {
        Some(match self {
            Self::Form(_) => {
                "give, for example, `8080:80`, `0.0.0.0:8080:80` or `5353:53/udp`".into()
            }
            Self::Address(_) => {
                "give an IP address, an IPv6 address in brackets: `[::1]:8080:80`".into()
            }
            Self::Port(_) => {
                "give a port from 1 to 65535, or 0 as the host's port for any free one".into()
            }
        })
    }
}

/// A port of the host that forwards to a port of the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublishedPort {
    /// The host's listening address; port 0 is any free port.
    pub host: SocketAddr,
    /// The guest's port, 1 to 65535.
    pub guest: u16,
    /// TCP or UDP.
    pub transport: Transport,
}

impl FromStr for PublishedPort {
    type Err = PublishError;

    fn from_str(text: &str) -> Result<Self, PublishError> {
        let form = || PublishError::Form(text.into());
        let (ports, transport) = match text.rsplit_once('/') {
            None => (text, Transport::Tcp),
            Some((ports, "tcp")) => (ports, Transport::Tcp),
            Some((ports, "udp")) => (ports, Transport::Udp),
            Some(_) => return Err(form()),
        };
        let (host, guest) = ports.rsplit_once(':').ok_or_else(form)?;
        let (address, host) = match host.rsplit_once(':') {
            Some((address, host)) => (listening_address(address)?, host),
            None => (Ipv4Addr::LOCALHOST.into(), host),
        };
        let guest = match port(guest)? {
            0 => return Err(PublishError::Port(guest.into())),
            guest => guest,
        };
        Ok(Self {
            host: SocketAddr::new(address, port(host)?),
            guest,
            transport,
        })
    }
}

fn listening_address(text: &str) -> Result<IpAddr, PublishError> {
    let refused = || PublishError::Address(text.into());
    match text.strip_prefix('[') {
        Some(rest) => {
            let v6 = rest.strip_suffix(']').ok_or_else(refused)?;
            v6.parse().map(IpAddr::V6).map_err(|_| refused())
        }
        // A bare IPv6 address is ambiguous before a port.
        None => text.parse().map(IpAddr::V4).map_err(|_| refused()),
    }
}

fn port(text: &str) -> Result<u16, PublishError> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse()
        .ok()
        .filter(|_| digits)
        .ok_or_else(|| PublishError::Port(text.into()))
}

serde_as_text!(PublishedPort);

impl fmt::Display for PublishedPort {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.host, self.guest)?;
        match self.transport {
            Transport::Tcp => Ok(()),
            other => write!(formatter, "/{other}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_port_without_address_listens_on_loopback() {
        for (text, written) in [
            ("8080:80", "127.0.0.1:8080:80"),
            ("0:80", "127.0.0.1:0:80"),
            ("5353:53/udp", "127.0.0.1:5353:53/udp"),
            ("0.0.0.0:8080:80/tcp", "0.0.0.0:8080:80"),
            ("[::1]:8080:80", "[::1]:8080:80"),
        ] {
            let port: PublishedPort = text.parse().unwrap();
            assert_eq!(port.to_string(), written);
            assert_eq!(written.parse::<PublishedPort>().unwrap(), port);
        }
    }

    #[test]
    fn published_port_of_another_form_is_refused() {
        for text in [
            "80",
            "",
            ":",
            "8080:",
            ":80",
            "8080:0",
            "65536:80",
            "80:65536",
            "+80:80",
            "a:80",
            "8080:80/icmp",
            "8080:80/",
            "localhost:8080:80",
            "::1:8080:80",
            "[::1:8080:80",
            "[127.0.0.1]:8080:80",
            "1.2.3:8080:80",
            "8080:80/udp/tcp",
        ] {
            let error = text.parse::<PublishedPort>().unwrap_err();
            assert!(error.hint().is_some(), "{text}");
        }
    }
}
