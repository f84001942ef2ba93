//! The format of a log line.

use std::fmt;
use std::net::IpAddr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use sandbox_spec::domain::DomainName;
use sandbox_spec::policy::{Reason, Transport};

/// The protocol by which the guest named its destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AskedBy {
    /// A query to the gateway's DNS server.
    Dns,
    /// The server name in a TLS ClientHello.
    Sni,
    /// A CONNECT request to the explicit proxy.
    Connect,
    /// A Host header, or another request to the explicit proxy.
    Http,
    /// A packet to an address.
    Address,
    /// A client of a published port.
    Published,
}

impl fmt::Display for AskedBy {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Dns => "DNS",
            Self::Sni => "SNI",
            Self::Connect => "CONNECT",
            Self::Http => "HTTP",
            Self::Address => "address",
            Self::Published => "published port",
        })
    }
}

/// The outcome of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// The gateway allowed it. Its line is written when it ends.
    Allowed,
    /// The gateway denied it.
    Denied,
}

impl fmt::Display for Outcome {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Allowed => "allowed",
            Self::Denied => "denied",
        })
    }
}

/// One line of the access log: an allowed flow, or a denial.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// The start of the flow.
    pub time: Timestamp,
    /// The outcome.
    pub verdict: Outcome,
    /// The name of the rule that decided.
    pub rule: String,
    /// The reason for a denial.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// The protocol by which the guest named the destination.
    pub asked: AskedBy,
    /// The destination's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<DomainName>,
    /// The destination's address, or the address to which the gateway connected for the name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    /// The destination port; 0 for protocols without ports.
    pub port: u16,
    /// The transport protocol.
    pub transport: Transport,
    /// Bytes from the guest.
    #[serde(default)]
    pub up: u64,
    /// Bytes to the guest.
    #[serde(default)]
    pub down: u64,
    /// The duration from the first packet to the end, in seconds.
    #[serde(default)]
    pub seconds: f64,
    /// The number of denials since the last line that got no line, because there were too many.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub suppressed: u64,
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}
