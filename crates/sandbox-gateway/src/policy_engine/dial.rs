//! Resolves names and connects to them for the guest.

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

/// The time from the first query to the connection.
const DEADLINE: Duration = Duration::from_secs(15);
/// The TTL of the host's name.
const HOST_NAME_TTL: Duration = Duration::from_secs(60);
/// The most addresses of one name that are used.
const MOST_ADDRESSES: usize = 32;

/// The addresses of a name that the policy allows; at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// The addresses, IPv4 first, each family in the resolver's order.
    pub addresses: Vec<IpAddr>,
    /// The shortest TTL among them.
    pub ttl: Duration,
}

/// An error in resolving a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// The policy denies the name, or all its addresses.
    #[error("{reason} ({rule})")]
    Denied {
        /// The rule that denied it.
        rule: RuleName,
        /// The reason.
        reason: Reason,
    },
    /// The resolver found no addresses.
    #[error(transparent)]
    Lookup(#[from] LookupError),
}

/// An error in connecting to a name.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The name has no address that the policy allows.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    /// No address accepted the connection.
    #[error("could not connect to `{to}`")]
    Connect {
        /// The last address that was tried.
        to: SocketAddr,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// No connection was ready in time.
    #[error("could not connect in time")]
    Timeout,
}

impl PolicyEngine {
    /// Decides whether the guest may resolve a name. The engine never forwards a denied name.
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

    /// Resolves a name as the host does. Drops the addresses that the policy forbids for names, and
    /// records the others for the name.
    ///
    /// # Errors
    /// [`ResolveError`]. A name without an allowed address is denied.
    pub async fn resolve(&self, name: &DomainName) -> Result<Resolved, ResolveError> {
        if *name == self.host_name {
            return Ok(Resolved {
                addresses: vec![GATEWAY.into()],
                ttl: HOST_NAME_TTL,
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

    /// Resolves a name, and connects to one address after the other for at most 15 s. Checks the
    /// current policy for each address.
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
            return Err(ResolveError::Denied { rule, reason }.into());
        }
        let resolved = tokio::time::timeout_at(until, self.resolve(name))
            .await
            .map_err(|_| DialError::Timeout)??;
        let mut last = None;
        let mut left = u32::try_from(resolved.addresses.len()).unwrap_or(u32::MAX);
        for address in resolved.addresses {
            // Each address gets an equal share of the remaining time.
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

    /// Connects to this address of a name, if the current policy allows it.
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
            .map_err(|(rule, reason)| ResolveError::Denied { rule, reason })?;
        let stream = tokio::time::timeout(DEADLINE, TcpStream::connect(to))
            .await
            .map_err(|_| DialError::Timeout)?
            .map_err(|source| DialError::Connect { to, source })?;
        // Nagle's algorithm gains nothing: the bytes come from another stream.
        let _ = stream.set_nodelay(true);
        Ok((stream, to))
    }
}
