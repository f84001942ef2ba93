//! The start of a flow, and the log line that it becomes.

use std::net::{IpAddr, SocketAddr};

use jiff::Timestamp;

use super::entry::{AskedBy, Entry, Outcome};
use sandbox_spec::domain::DomainName;
use sandbox_spec::policy::{Reason, RuleName, Transport};

/// The destination of a flow, as far as the gateway knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlowStart {
    /// The protocol by which the guest named it.
    pub asked_by: AskedBy,
    /// The name.
    pub name: Option<DomainName>,
    /// The address.
    pub address: Option<IpAddr>,
    /// The port; 0 for protocols without ports.
    pub port: u16,
    /// The transport protocol.
    pub transport: Transport,
}

impl FlowStart {
    /// Returns a flow to an address.
    pub fn to_address(address: SocketAddr, transport: Transport) -> Self {
        Self {
            asked_by: AskedBy::Address,
            name: None,
            address: Some(address.ip()),
            port: address.port(),
            transport,
        }
    }

    /// Returns a flow to a name.
    pub fn to_name(asked_by: AskedBy, name: DomainName, port: u16, transport: Transport) -> Self {
        Self {
            asked_by,
            name: Some(name),
            address: None,
            port,
            transport,
        }
    }

    /// Returns this flow with its address.
    pub fn at(mut self, address: IpAddr) -> Self {
        self.address = Some(address);
        self
    }

    pub(super) fn entry(self, verdict: Outcome, rule: String, reason: Option<Reason>) -> Entry {
        Entry {
            time: Timestamp::now(),
            verdict,
            rule,
            reason,
            asked: self.asked_by,
            name: self.name,
            address: self.address,
            port: self.port,
            transport: self.transport,
            up: 0,
            down: 0,
            seconds: 0.0,
            suppressed: 0,
        }
    }

    /// Returns the log line of a denial.
    pub(super) fn denied(self, rule: &RuleName, reason: Reason) -> Entry {
        self.entry(Outcome::Denied, rule.to_string(), Some(reason))
    }
}
