//! The decisions about flows and names. They do not wait and do not log.

use std::net::{IpAddr, SocketAddr};

use super::engine::PolicyEngine;
use sandbox_spec::address::AddressKind;
use sandbox_spec::domain::{DomainName, DomainPattern};
use sandbox_spec::guest_network::GATEWAY;
use sandbox_spec::policy::{
    Action, Direction, Flow, NamedVerdict, Peer, Preset, Reason, Rule, RuleName, Target, Transport,
    Verdict,
};

/// The destination of a new flow of the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Destination {
    /// The destination address of its packet.
    pub address: IpAddr,
    /// The port; 0 for ICMP.
    pub port: u16,
    /// The transport protocol.
    pub transport: Transport,
}

/// The ports of HTTP and HTTPS, which proxy mode intercepts.
const WEB: [u16; 2] = [80, 443];

impl PolicyEngine {
    /// Decides about a new flow from the guest to an address.
    pub fn outbound(&self, destination: &Destination) -> Verdict {
        let peer = self.peer(destination.address);
        let named = |pattern: &DomainPattern| self.has_name(&peer, pattern);
        let flow = Flow {
            direction: Direction::Out,
            peer: Some(peer),
            named: &named,
            transport: destination.transport,
            port: destination.port,
        };
        match self.policy.first_match(&flow) {
            Some(rule) if rule.action == Action::Allow => {
                self.allow(&peer, destination.port, rule_name(rule))
            }
            Some(rule) => deny(rule_name(rule), Reason::Rule),
            None if is_resolver(destination) => deny(RuleName::Resolvers, Reason::OtherResolver),
            None if self.is_proxy_mode() => self.outbound_by_proxy(&peer, destination),
            None if self.policy.preset.allows(peer.kind) => self.allow(
                &peer,
                destination.port,
                RuleName::Preset(self.policy.preset),
            ),
            None => deny(RuleName::Preset(self.policy.preset), Reason::Preset),
        }
    }

    fn outbound_by_proxy(&self, peer: &Peer, destination: &Destination) -> Verdict {
        match (destination.transport, destination.port) {
            (Transport::Udp, 443) => deny(RuleName::Proxy, Reason::Quic),
            (Transport::Tcp, port) if WEB.contains(&port) => {
                if self.policy.preset.allows_behind_a_name(peer.kind) {
                    Verdict::Intercept
                } else {
                    deny(RuleName::Preset(self.policy.preset), Reason::Preset)
                }
            }
            _ => deny(RuleName::Proxy, Reason::NotTheWeb),
        }
    }

    /// Decides about a flow from a client to a published port of the guest.
    pub fn inbound(&self, client: SocketAddr, guest_port: u16, transport: Transport) -> Verdict {
        let flow = Flow {
            direction: Direction::In,
            peer: Some(self.peer(client.ip())),
            named: &|_| false,
            transport,
            port: guest_port,
        };
        let allow = |rule| Verdict::Allow {
            to: Self::guest(guest_port),
            rule,
            name: None,
        };
        match self.policy.first_match(&flow) {
            Some(rule) if rule.action == Action::Allow => allow(rule_name(rule)),
            Some(rule) => deny(rule_name(rule), Reason::Rule),
            None => allow(RuleName::Published),
        }
    }

    /// Decides about TCP connections to a port of a name, before its address is known.
    pub fn named(&self, name: &DomainName, port: u16) -> NamedVerdict {
        if *name == self.host_name {
            return self.host_name_verdict(&self.peer(GATEWAY.into()), port);
        }
        match self.rule_for_name(name, None, port) {
            Some(rule) if rule.action == Action::Allow => NamedVerdict::Allow {
                rule: rule_name(rule),
            },
            Some(rule) => deny_name(rule_name(rule), Reason::Rule),
            None if self.is_proxy_mode() => self.named_by_allowlist(name, port),
            None if self.policy.preset == Preset::None => {
                deny_name(RuleName::Preset(Preset::None), Reason::Preset)
            }
            None => NamedVerdict::Allow {
                rule: RuleName::Preset(self.policy.preset),
            },
        }
    }

    fn rule_for_name(&self, name: &DomainName, peer: Option<Peer>, port: u16) -> Option<&Rule> {
        self.policy.first_match(&Flow {
            direction: Direction::Out,
            peer,
            named: &|pattern| pattern.matches(name),
            transport: Transport::Tcp,
            port,
        })
    }

    fn named_by_allowlist(&self, name: &DomainName, port: u16) -> NamedVerdict {
        match self.allowlist_rule(name) {
            Some(_) if !WEB.contains(&port) => deny_name(RuleName::Proxy, Reason::NotTheWeb),
            Some(rule) => NamedVerdict::Allow { rule },
            None => deny_name(RuleName::Proxy, Reason::NotListed),
        }
    }

    /// Returns the allowlist entry, or the temporary pattern, that allows the name.
    pub(super) fn allowlist_rule(&self, name: &DomainName) -> Option<RuleName> {
        let list = self.list.as_ref()?.current();
        if let Some(pattern) = list.find(name) {
            return Some(RuleName::Listed(pattern.clone()));
        }
        let once = self.once.borrow();
        let pattern = once.iter().find(|pattern| pattern.matches(name))?;
        Some(RuleName::Once(pattern.clone()))
    }

    /// Decides whether a name may be reached at this address. Returns the address for the
    /// connection, and the rule that allows it.
    ///
    /// # Errors
    /// The rule that denies it, and the reason.
    pub fn reach(
        &self,
        name: &DomainName,
        address: SocketAddr,
    ) -> Result<(SocketAddr, RuleName), (RuleName, Reason)> {
        let peer = self.peer(address.ip());
        match self.named_by_address(&peer, name, address.port()) {
            NamedVerdict::Allow { rule } => {
                Ok((SocketAddr::new(peer.reached, address.port()), rule))
            }
            NamedVerdict::Deny { rule, reason } => Err((rule, reason)),
        }
    }

    fn named_by_address(&self, peer: &Peer, name: &DomainName, port: u16) -> NamedVerdict {
        if *name == self.host_name {
            return self.host_name_verdict(peer, port);
        }
        let rule = self.rule_for_name(name, Some(*peer), port);
        let is_about_names = |rule: &Rule| matches!(rule.target, Target::Domain(_));
        match rule {
            Some(rule) if rule.action == Action::Deny => deny_name(rule_name(rule), Reason::Rule),
            Some(rule) if !is_about_names(rule) => match self.named(name, port) {
                // The rule allows the address. The name needs its own permission.
                NamedVerdict::Allow { .. } => NamedVerdict::Allow {
                    rule: rule_name(rule),
                },
                denied => denied,
            },
            Some(rule) if self.policy.behind_a_name(*peer) => NamedVerdict::Allow {
                rule: rule_name(rule),
            },
            Some(rule) => deny_name(rule_name(rule), Reason::AddressBehindName),
            None if self.policy.preset.allows_behind_a_name(peer.kind) => self.named(name, port),
            None => deny_name(
                RuleName::Preset(self.policy.preset),
                Reason::AddressBehindName,
            ),
        }
    }

    /// Decides about the host's own name as about the gateway's address. The allowlist does not
    /// count for it.
    fn host_name_verdict(&self, peer: &Peer, port: u16) -> NamedVerdict {
        let preset = RuleName::Preset(self.policy.preset);
        if peer.kind != AddressKind::Gateway {
            return deny_name(preset, Reason::NameMismatch);
        }
        match self.rule_for_name(&self.host_name, Some(*peer), port) {
            Some(rule) if rule.action == Action::Allow => NamedVerdict::Allow {
                rule: rule_name(rule),
            },
            Some(rule) => deny_name(rule_name(rule), Reason::Rule),
            None if self.is_proxy_mode() => deny_name(RuleName::Proxy, Reason::NotListed),
            None if self.policy.preset.allows(peer.kind) => NamedVerdict::Allow { rule: preset },
            None => deny_name(preset, Reason::Preset),
        }
    }

    /// Returns whether the gateway's DNS resolved a name of this pattern to the peer. An address
    /// that the policy forbids for names has no name.
    fn has_name(&self, peer: &Peer, pattern: &DomainPattern) -> bool {
        if peer.kind == AddressKind::Gateway {
            return pattern.matches(&self.host_name);
        }
        self.policy.behind_a_name(*peer)
            && self
                .names
                .borrow()
                .of(peer.asked)
                .any(|name| pattern.matches(name))
    }

    fn allow(&self, peer: &Peer, port: u16, rule: RuleName) -> Verdict {
        let name = match peer.kind {
            AddressKind::Gateway => Some(self.host_name.clone()),
            _ => self.names.borrow().of(peer.asked).next().cloned(),
        };
        Verdict::Allow {
            to: SocketAddr::new(peer.reached, port),
            rule,
            name,
        }
    }

    /// Returns whether a name may resolve to this address, at any port.
    pub(super) fn may_resolve_to(&self, address: IpAddr) -> bool {
        self.policy.behind_a_name(self.peer(address))
    }
}

fn rule_name(rule: &Rule) -> RuleName {
    RuleName::Rule(rule.to_string())
}

fn deny(rule: RuleName, reason: Reason) -> Verdict {
    Verdict::Deny { rule, reason }
}

fn deny_name(rule: RuleName, reason: Reason) -> NamedVerdict {
    NamedVerdict::Deny { rule, reason }
}

/// Returns whether the port is of DNS, or of DNS over TLS or QUIC (RFC 7858, RFC 9250).
fn is_resolver(destination: &Destination) -> bool {
    destination.transport != Transport::Icmp && matches!(destination.port, 53 | 853)
}
