//! `--dns ADDR[:PORT]`: the resolver to ask in place of the host's.

use sandbox_host::hint::Hint;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The resolver that `--dns ADDR[:PORT]` names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ResolverAddress(pub SocketAddr);

/// Why the address of a resolver was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not the address of a resolver")]
pub struct InvalidResolver(String);

impl InvalidResolver {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<Hint> {
        Some(
            "as in `--dns 192.0.2.53`, `--dns 192.0.2.53:5353` or `--dns [2001:db8::53]:53`".into(),
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
    fn resolvers_have_port_53_unless_another_is_named() {
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
