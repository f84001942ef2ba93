//! Rules: `allow|deny[:out|in]@TARGET[:tcp|udp|icmp][:PORTS]`.

use std::fmt;
use std::str::FromStr;

use super::error::RuleError;
use super::flow::{Direction, Flow, Transport};
use super::ports::Ports;
use super::target::{Action, Target};
use crate::text::serde_as_text;

/// One rule of a [`super::Policy`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// The decision about flows that match.
    pub action: Action,
    /// The direction of the flows.
    pub direction: Direction,
    /// The other side of the flows.
    pub target: Target,
    /// The protocol; `None` is any.
    pub transport: Option<Transport>,
    /// The destination ports, for [`Direction::In`] those of the guest; `None` is any.
    pub ports: Option<Ports>,
}

impl Rule {
    /// Returns whether the rule decides about the flow.
    pub fn matches(&self, flow: &Flow<'_>) -> bool {
        let by_peer = || {
            flow.peer
                .is_some_and(|peer| self.target.matches_peer(&peer, self.action))
        };
        let by_name = || matches!(&self.target, Target::Domain(pattern) if (flow.named)(pattern));
        self.direction == flow.direction
            && self.covers(flow.transport, flow.port)
            && (by_peer() || by_name())
    }

    fn covers(&self, transport: Transport, port: u16) -> bool {
        match &self.ports {
            // Ports without a protocol are those of TCP and UDP.
            Some(ports) => {
                transport != Transport::Icmp
                    && self.transport.is_none_or(|own| own == transport)
                    && ports.contains(port)
            }
            None => self.transport.is_none_or(|own| own == transport),
        }
    }

    /// Returns whether the rule covers every protocol and port.
    pub fn is_for_every_flow(&self) -> bool {
        self.transport.is_none() && self.ports.is_none()
    }
}

impl FromStr for Rule {
    type Err = RuleError;

    fn from_str(text: &str) -> Result<Self, RuleError> {
        let form = || RuleError::Form(text.into());
        let (head, rest) = text.split_once('@').ok_or_else(form)?;
        let (action, direction) = match head.split_once(':') {
            Some((action, "out")) => (action, Direction::Out),
            Some((action, "in")) => (action, Direction::In),
            Some(_) => return Err(form()),
            None => (head, Direction::Out),
        };
        let action = match action {
            "allow" => Action::Allow,
            "deny" => Action::Deny,
            _ => return Err(form()),
        };
        let (target, rest) = Target::split(rest, text)?;
        let (transport, ports) = match rest {
            None => (None, None),
            Some(rest) => match rest.split_once(':') {
                Some((transport, ports)) => (
                    Some(transport.parse().map_err(|()| form())?),
                    Some(ports.parse()?),
                ),
                None => match rest.parse() {
                    Ok(transport) => (Some(transport), None),
                    Err(()) if rest.bytes().any(|byte| byte.is_ascii_alphabetic()) => {
                        return Err(form());
                    }
                    Err(()) => (None, Some(rest.parse()?)),
                },
            },
        };
        if transport == Some(Transport::Icmp) && ports.is_some() {
            return Err(RuleError::PortsOfIcmp(text.into()));
        }
        if direction == Direction::In && matches!(target, Target::Domain(_)) {
            return Err(RuleError::DomainComesIn(text.into()));
        }
        Ok(Self {
            action,
            direction,
            target,
            transport,
            ports,
        })
    }
}

serde_as_text!(Rule);

impl fmt::Display for Rule {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self.action {
            Action::Allow => "allow",
            Action::Deny => "deny",
        })?;
        if self.direction == Direction::In {
            formatter.write_str(":in")?;
        }
        write!(formatter, "@{}", self.target)?;
        if let Some(transport) = self.transport {
            write!(formatter, ":{transport}")?;
        }
        match &self.ports {
            Some(ports) => write!(formatter, ":{ports}"),
            None => Ok(()),
        }
    }
}
