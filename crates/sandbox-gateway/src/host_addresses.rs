//! The addresses of the host's own interfaces.

use std::cell::RefCell;
use std::collections::HashSet;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use sandbox_spec::address::{AddressKind, classify};

/// The addresses of the host's interfaces. A lookup reads them again at most once a second.
#[derive(Debug)]
pub struct HostAddresses {
    known: RefCell<Known>,
}

#[derive(Debug)]
struct Known {
    addresses: HashSet<IpAddr>,
    /// When to read them again; `None` for fixed addresses.
    stale_at: Option<Instant>,
}

/// The time for which an answer of getifaddrs(3) is cached.
const CACHE_TIME: Duration = Duration::from_secs(1);

impl HostAddresses {
    /// Reads the addresses of this machine.
    ///
    /// # Errors
    /// If getifaddrs(3) fails.
    pub fn of_system() -> std::io::Result<Self> {
        Ok(Self {
            known: RefCell::new(Known {
                addresses: read_interfaces()?,
                stale_at: Some(Instant::now() + CACHE_TIME),
            }),
        })
    }

    /// Returns a fixed set of addresses.
    pub fn fixed(addresses: impl IntoIterator<Item = IpAddr>) -> Self {
        Self {
            known: RefCell::new(Known {
                addresses: addresses.into_iter().collect(),
                stale_at: None,
            }),
        }
    }

    /// Returns whether the host currently has the address.
    pub fn contains(&self, address: IpAddr) -> bool {
        let mut known = self.known.borrow_mut();
        let now = Instant::now();
        if known.stale_at.is_some_and(|stale_at| stale_at <= now) {
            // After a failure the old addresses stay denied.
            if let Ok(addresses) = read_interfaces() {
                known.addresses = addresses;
            }
            known.stale_at = Some(now + CACHE_TIME);
        }
        known.addresses.contains(&address)
    }

    /// Returns the kind of `address` on this host.
    pub fn classify(&self, address: IpAddr) -> AddressKind {
        classify(address, &|address| self.contains(address))
    }
}

fn read_interfaces() -> std::io::Result<HashSet<IpAddr>> {
    let interfaces = nix::ifaddrs::getifaddrs()?;
    Ok(interfaces
        .filter_map(|interface| interface.address)
        .filter_map(|address| {
            let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
            v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn system_addresses_contain_loopback() {
        let hosts = HostAddresses::of_system().unwrap();
        assert!(hosts.contains(Ipv4Addr::LOCALHOST.into()));
        assert!(!hosts.contains("192.0.2.77".parse().unwrap()));
    }
}
