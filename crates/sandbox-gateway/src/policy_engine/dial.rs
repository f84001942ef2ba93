//! Resolving and connecting on behalf of the guest.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_proto::rr::RecordType;
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::engine::PolicyEngine;
use crate::resolver::{LookupError, addresses};
use sandbox_spec::domain::DomainName;
use sandbox_spec::guest_network::GATEWAY;
use sandbox_spec::policy::{Action, NamedVerdict, Policy, Preset, Reason, RuleName};

/// From the first question to the connection.
const DEADLINE: Duration = Duration::from_secs(15);
/// How long the name of the host itself is good for.
const OWN_TTL: Duration = Duration::from_secs(60);
/// The most addresses of one name that are looked at.
const MOST_ADDRESSES: usize = 32;

/// The addresses of a name that the policy lets stand behind it; at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// IPv4 first, each family in the resolver's order.
    pub addresses: Vec<IpAddr>,
    /// The shortest time to live among them.
    pub ttl: Duration,
}

/// Why a name was not resolved.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// The name may not be asked for.
    #[error("{reason} ({rule})")]
    Denied {
        /// What denied it.
        rule: RuleName,
        /// Why.
        reason: Reason,
    },
    /// The resolver did not answer with addresses.
    #[error(transparent)]
    Lookup(#[from] LookupError),
}

/// Why no connection was made.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The policy is against the name or against each of its addresses.
    #[error("{reason} ({rule})")]
    Denied {
        /// What denied it.
        rule: RuleName,
        /// Why.
        reason: Reason,
    },
    /// The resolver did not answer with addresses.
    #[error(transparent)]
    Lookup(#[from] LookupError),
    /// No address took the connection.
    #[error("could not connect to `{to}`")]
    Connect {
        /// The last address that was tried.
        to: SocketAddr,
        /// What the system said of it.
        #[source]
        source: io::Error,
    },
    /// Nothing came of it in time.
    #[error("no connection in time")]
    Timeout,
}

impl From<ResolveError> for DialError {
    fn from(error: ResolveError) -> Self {
        match error {
            ResolveError::Denied { rule, reason } => Self::Denied { rule, reason },
            ResolveError::Lookup(error) => Self::Lookup(error),
        }
    }
}

impl PolicyEngine {
    /// Whether a name may be asked for at all, whatever for: what is denied is never forwarded.
    pub fn may_resolve(&self, name: &DomainName) -> NamedVerdict {
        let Policy { preset, .. } = self.policy;
        let deny = |rule, reason| NamedVerdict::Deny { rule, reason };
        if let Some(rule) = self.policy.about_name(name) {
            let text = RuleName::Rule(rule.to_string());
            return match rule.action {
                Action::Allow => NamedVerdict::Allow { rule: text },
                Action::Deny => deny(text, Reason::Rule),
            };
        }
        if self.is_proxy_mode() {
            return match self.allowlist_rule(name) {
                Some(rule) => NamedVerdict::Allow { rule },
                None => deny(RuleName::Proxy, Reason::NotListed),
            };
        }
        let rule = RuleName::Preset(preset);
        match preset {
            Preset::None => deny(rule, Reason::Preset),
            _ => NamedVerdict::Allow { rule },
        }
    }

    /// Resolves as the host does, drops the addresses that the policy does not let stand behind a
    /// name, and remembers the others as the name's.
    ///
    /// # Errors
    /// [`ResolveError`]; a name of which every address was dropped is denied.
    pub async fn resolve(&self, name: &DomainName) -> Result<Resolved, ResolveError> {
        if *name == self.host_name {
            return Ok(Resolved {
                addresses: vec![GATEWAY.into()],
                ttl: OWN_TTL,
            });
        }
        if let NamedVerdict::Deny { rule, reason } = self.may_resolve(name) {
            return Err(ResolveError::Denied { rule, reason });
        }
        let v6 = async {
            if self.ipv6 {
                self.resolver.records(name, RecordType::AAAA).await
            } else {
                Err(LookupError::NoRecords)
            }
        };
        let (v4, v6) = tokio::join!(self.resolver.records(name, RecordType::A), v6);
        let failed = match (&v4, &v6) {
            (Err(error), Err(LookupError::NoRecords)) | (Err(_), Err(error)) => Some(error.clone()),
            _ => None,
        };
        if let Some(error) = failed {
            return Err(error.into());
        }
        let records = [v4.unwrap_or_default(), v6.unwrap_or_default()].concat();
        let mut found: Vec<_> = addresses(&records).take(MOST_ADDRESSES).collect();
        let had_any = !found.is_empty();
        found.retain(|(address, _)| self.may_resolve_to(*address));
        let Some(ttl) = found.iter().map(|(_, ttl)| *ttl).min() else {
            return Err(if had_any {
                ResolveError::Denied {
                    rule: RuleName::Preset(self.policy.preset),
                    reason: Reason::AddressBehindName,
                }
            } else {
                LookupError::NoRecords.into()
            });
        };
        for (address, ttl) in &found {
            self.names.borrow_mut().learn(name, *address, *ttl);
        }
        Ok(Resolved {
            addresses: found.into_iter().map(|(address, _)| address).collect(),
            ttl,
        })
    }

    /// Connects to a name: resolves it now, checks each address against the policy at this moment,
    /// and tries one after the other, 15 s in all.
    ///
    /// # Errors
    /// [`DialError`].
    pub async fn dial(
        &self,
        name: &DomainName,
        port: u16,
    ) -> Result<(TcpStream, SocketAddr), DialError> {
        let until = Instant::now() + DEADLINE;
        if let NamedVerdict::Deny { rule, reason } = self.named(name, port) {
            return Err(DialError::Denied { rule, reason });
        }
        let resolved = tokio::time::timeout_at(until, self.resolve(name))
            .await
            .map_err(|_| DialError::Timeout)??;
        let mut last = None;
        let mut left = u32::try_from(resolved.addresses.len()).unwrap_or(u32::MAX);
        for address in resolved.addresses {
            // An address that does not answer leaves time for the others.
            let share = until.saturating_duration_since(Instant::now()) / left.max(1);
            left = left.saturating_sub(1);
            let attempt = self.dial_address(name, SocketAddr::new(address, port));
            match tokio::time::timeout(share, attempt).await {
                Ok(Ok(connected)) => return Ok(connected),
                Ok(Err(error)) => last = Some(error),
                Err(_) => last = Some(DialError::Timeout),
            }
        }
        Err(last.unwrap_or(DialError::Timeout))
    }

    /// Connects to a name at this address and no other, if the policy allows it at this moment.
    ///
    /// # Errors
    /// [`DialError`].
    pub async fn dial_address(
        &self,
        name: &DomainName,
        address: SocketAddr,
    ) -> Result<(TcpStream, SocketAddr), DialError> {
        let (to, _) = self
            .reach(name, address)
            .map_err(|(rule, reason)| DialError::Denied { rule, reason })?;
        let stream = tokio::time::timeout(DEADLINE, TcpStream::connect(to))
            .await
            .map_err(|_| DialError::Timeout)?
            .map_err(|source| DialError::Connect { to, source })?;
        // Proxied bytes are already as large as they get.
        let _ = stream.set_nodelay(true);
        Ok((stream, to))
    }
}
