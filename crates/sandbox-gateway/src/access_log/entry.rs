//! A line of the access log.

use std::fmt;
use std::net::IpAddr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use sandbox_spec::domain::DomainName;
use sandbox_spec::policy::{Reason, Transport};

/// By which way the guest said where it wants to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AskedBy {
    /// A question to the gateway's DNS.
    Dns,
    /// The server's name in a TLS ClientHello.
    Sni,
    /// CONNECT at the explicit proxy.
    Connect,
    /// A Host header, or a request at the explicit proxy.
    Http,
    /// A packet to an address.
    Address,
    /// Somebody outside, through a published port.
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

/// What became of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It was let through; the line is written when it has ended.
    Allowed,
    /// It was refused.
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

/// One line of the access log: one flow, or one refusal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// When it began.
    pub time: Timestamp,
    /// What became of it.
    pub verdict: Outcome,
    /// What decided.
    pub rule: String,
    /// Why it was denied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// How the guest asked.
    pub asked: AskedBy,
    /// The name it asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<DomainName>,
    /// The address it asked for, or that was connected to for its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    /// The port; 0 where there is none.
    pub port: u16,
    /// What carried it.
    pub transport: Transport,
    /// Bytes from the guest.
    #[serde(default)]
    pub up: u64,
    /// Bytes to the guest.
    #[serde(default)]
    pub down: u64,
    /// From its first packet to its end, in seconds.
    #[serde(default)]
    pub seconds: f64,
    /// Refusals before this one that got no line, since there were too many.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub suppressed: u64,
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}
