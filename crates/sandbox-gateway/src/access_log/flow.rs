//! A flow on its way into the log.

use std::cell::Cell;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Instant;

use jiff::Timestamp;

use super::entry::{AskedBy, Entry, Outcome};
use super::writer::AccessLog;
use sandbox_spec::domain::DomainName;
use sandbox_spec::policy::{Reason, RuleName, Transport};

/// Where a flow goes, as far as it is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlowStart {
    /// How the guest said so.
    pub asked_by: AskedBy,
    /// The name.
    pub name: Option<DomainName>,
    /// The address.
    pub address: Option<IpAddr>,
    /// The port; 0 where there is none.
    pub port: u16,
    /// What carries it.
    pub transport: Transport,
}

impl FlowStart {
    /// A flow to an address.
    pub fn to_address(address: SocketAddr, transport: Transport) -> Self {
        Self {
            asked_by: AskedBy::Address,
            name: None,
            address: Some(address.ip()),
            port: address.port(),
            transport,
        }
    }

    /// A flow to a name.
    pub fn to_name(asked_by: AskedBy, name: DomainName, port: u16, transport: Transport) -> Self {
        Self {
            asked_by,
            name: Some(name),
            address: None,
            port,
            transport,
        }
    }

    /// The same, now that its address is known.
    pub fn at(mut self, address: IpAddr) -> Self {
        self.address = Some(address);
        self
    }

    fn entry(self, verdict: Outcome, rule: String, reason: Option<Reason>) -> Entry {
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

    /// The line of a refusal.
    pub(super) fn denied(self, rule: &RuleName, reason: Reason) -> Entry {
        self.entry(Outcome::Denied, rule.to_string(), Some(reason))
    }
}

/// A running flow: counts its bytes, and writes its line when it ends, by [`FlowEntry::finish`]
/// or by being dropped.
pub struct FlowEntry {
    log: Rc<AccessLog>,
    entry: Option<Entry>,
    began: Instant,
    up: Cell<u64>,
    down: Cell<u64>,
}

impl FlowEntry {
    pub(super) fn new(log: Rc<AccessLog>, flow: FlowStart, rule: &RuleName) -> Self {
        Self {
            log,
            entry: Some(flow.entry(Outcome::Allowed, rule.to_string(), None)),
            began: Instant::now(),
            up: Cell::new(0),
            down: Cell::new(0),
        }
    }

    /// Counts bytes from the guest.
    pub fn add_up(&self, bytes: u64) {
        self.up.set(self.up.get().saturating_add(bytes));
    }

    /// Counts bytes to the guest.
    pub fn add_down(&self, bytes: u64) {
        self.down.set(self.down.get().saturating_add(bytes));
    }

    /// Writes the line.
    pub fn finish(self) {}
}

impl Drop for FlowEntry {
    fn drop(&mut self) {
        if let Some(entry) = self.entry.take() {
            self.log.write(&Entry {
                up: self.up.get(),
                down: self.down.get(),
                seconds: (self.began.elapsed().as_secs_f64() * 1000.0).round() / 1000.0,
                ..entry
            });
        }
    }
}
