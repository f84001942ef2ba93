//! The host and port of a request: in `Host`, in `:authority`, and in the target of CONNECT.

use std::net::{IpAddr, Ipv6Addr};

use thiserror::Error;

use sandbox_spec::domain::{DomainError, DomainName};

/// A host with an optional port (RFC 3986, section 3.2, without userinfo).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Authority {
    pub(super) host: Host,
    pub(super) port: Option<u16>,
}

/// A host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Host {
    /// A name in its canonical form.
    Name(DomainName),
    /// An address in its usual notation.
    Address(IpAddr),
    /// A number that some programs read as an address: `127.1`, `0x7f.1`.
    Number(String),
}

/// An error in parsing an [`Authority`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(super) enum AuthorityError {
    /// `user@host` hides the host from people, and programs parse it differently.
    #[error("userinfo before the host")]
    UserInfo,
    /// The host is neither a name nor an address.
    #[error("invalid host")]
    Host,
    /// The port is not a number from 1 to 65535.
    #[error("invalid port")]
    Port,
}

impl Authority {
    /// Parses `host`, `host:port`, `[address]` or `[address]:port`.
    ///
    /// # Errors
    ///
    /// If a part is invalid or ambiguous.
    pub(super) fn parse(text: &str) -> Result<Self, AuthorityError> {
        if text.contains('@') {
            return Err(AuthorityError::UserInfo);
        }
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (address, rest) = rest.split_once(']').ok_or(AuthorityError::Host)?;
                let address: Ipv6Addr = address.parse().map_err(|_| AuthorityError::Host)?;
                let port = match rest.strip_prefix(':') {
                    Some(port) => Some(port),
                    None if rest.is_empty() => None,
                    None => return Err(AuthorityError::Host),
                };
                (Host::Address(address.into()), port)
            }
            None => match text.split_once(':') {
                Some((host, port)) => (Host::parse(host)?, Some(port)),
                None => (Host::parse(text)?, None),
            },
        };
        let port = port.map(parse_port).transpose()?;
        Ok(Self { host, port })
    }
}

impl Host {
    fn parse(text: &str) -> Result<Self, AuthorityError> {
        if let Ok(address) = text.strip_suffix('.').unwrap_or(text).parse() {
            return Ok(Self::Address(IpAddr::V4(address)));
        }
        match text.parse() {
            Ok(name) => Ok(Self::Name(name)),
            Err(DomainError::Address(number)) => Ok(Self::Number(number)),
            Err(_) => Err(AuthorityError::Host),
        }
    }
}

fn parse_port(text: &str) -> Result<u16, AuthorityError> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(AuthorityError::Port);
    }
    match text.parse() {
        Ok(0) | Err(_) => Err(AuthorityError::Port),
        Ok(port) => Ok(port),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Host {
        Host::Name(text.parse().unwrap())
    }

    #[test]
    fn authority_parses_names_addresses_and_ports() {
        let address = |text: &str| Host::Address(text.parse().unwrap());
        for (text, host, port) in [
            ("example.com", name("example.com"), None),
            ("EXAMPLE.com.:443", name("example.com"), Some(443)),
            ("192.0.2.1", address("192.0.2.1"), None),
            ("192.0.2.1.:80", address("192.0.2.1"), Some(80)),
            ("[2001:db8::1]:443", address("2001:db8::1"), Some(443)),
            ("[::ffff:127.0.0.1]", address("::ffff:127.0.0.1"), None),
            ("127.1:80", Host::Number("127.1".into()), Some(80)),
            ("0x7f000001", Host::Number("0x7f000001".into()), None),
        ] {
            assert_eq!(
                Authority::parse(text),
                Ok(Authority { host, port }),
                "{text}"
            );
        }
    }

    #[test]
    fn ambiguous_authorities_are_rejected() {
        use AuthorityError::{Host as BadHost, Port, UserInfo};
        for (text, error) in [
            ("user@example.com", UserInfo),
            ("example.com@evil.example:443", UserInfo),
            ("", BadHost),
            (":443", BadHost),
            ("::1", BadHost),
            ("[::1", BadHost),
            ("[::1]443", BadHost),
            ("[192.0.2.1]", BadHost),
            ("[fe80::1%eth0]", BadHost),
            ("exa mple.com", BadHost),
            ("example.com/", BadHost),
            ("example.com,evil.example", BadHost),
            ("example.com:", Port),
            ("example.com:0", Port),
            ("example.com:65536", Port),
            ("example.com:+80", Port),
            ("example.com:80:80", Port),
        ] {
            assert_eq!(Authority::parse(text), Err(error), "{text}");
        }
    }
}
