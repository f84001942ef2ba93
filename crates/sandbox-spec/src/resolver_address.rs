//! The resolver that replaces the host's: the value of `--dns`.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use sandbox_host::hint::Hint;
use serde::{Deserialize, Serialize};

/// A resolver, written `ADDR[:PORT]`; the port is 53 by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ResolverAddress(pub SocketAddr);

/// The error of a text that is not the address of a resolver.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid resolver address `{0}`")]
pub struct InvalidResolver(String);

impl InvalidResolver {
    /// Returns a hint with valid addresses.
    pub fn hint(&self) -> Option<Hint> {
        Some(
            Hint::text("give, for example, ")
                .setting("dns", "192.0.2.53")
                .then(", ")
                .setting("dns", "192.0.2.53:5353")
                .then(" or ")
                .setting("dns", "[2001:db8::53]:53"),
        )
    }
}

impl FromStr for ResolverAddress {
    type Err = InvalidResolver;

    fn from_str(text: &str) -> Result<Self, InvalidResolver> {
        let address = match text.parse::<IpAddr>() {
            Ok(address) => SocketAddr::new(address, 53),
            Err(_) => text.parse().map_err(|_| InvalidResolver(text.into()))?,
        };
        match address {
            address if address.port() > 0 && !address.ip().is_unspecified() => Ok(Self(address)),
            _ => Err(InvalidResolver(text.into())),
        }
    }
}

impl fmt::Display for ResolverAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolver_without_port_gets_port_53() {
        for (text, expected) in [
            ("192.0.2.53", Some("192.0.2.53:53")),
            ("192.0.2.53:5353", Some("192.0.2.53:5353")),
            ("2001:db8::53", Some("[2001:db8::53]:53")),
            ("[2001:db8::53]:5353", Some("[2001:db8::53]:5353")),
            ("[2001:db8::53]", None),
            ("0.0.0.0", None),
            ("192.0.2.53:0", None),
            ("dns.example", None),
            ("", None),
        ] {
            let found = text.parse::<ResolverAddress>().ok();
            assert_eq!(
                found.map(|it| it.to_string()).as_deref(),
                expected,
                "{text}"
            );
        }
    }
}
