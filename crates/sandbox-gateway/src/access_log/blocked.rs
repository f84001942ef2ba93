//! Denied attempts, counted by target.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::net::IpAddr;

use jiff::Timestamp;
use serde::Serialize;

use super::entry::{AskedBy, Entry, Outcome};
use sandbox_spec::domain::DomainName;
use sandbox_spec::policy::{Reason, Transport};

/// The most targets that are counted. Beyond that, the older half is discarded.
const MOST_TARGETS: usize = 10_000;

/// The target of a denied attempt.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(untagged)]
pub enum BlockedTarget {
    /// A name, at any port.
    Name {
        /// The name.
        name: DomainName,
    },
    /// An address without a name.
    Address {
        /// The address.
        address: IpAddr,
        /// The port; 0 for ICMP.
        port: u16,
        /// The transport protocol.
        transport: Transport,
    },
    /// The guest named neither.
    Nothing {},
}

impl fmt::Display for BlockedTarget {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name { name } => write!(formatter, "{name}"),
            Self::Address {
                address,
                transport: Transport::Icmp,
                ..
            } => write!(formatter, "{address} (icmp)"),
            Self::Address {
                address,
                port,
                transport,
            } => match address {
                IpAddr::V4(v4) => write!(formatter, "{v4}:{port}/{transport}"),
                IpAddr::V6(v6) => write!(formatter, "[{v6}]:{port}/{transport}"),
            },
            Self::Nothing {} => formatter.write_str("(no name)"),
        }
    }
}

/// The denied attempts for one target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Blocked {
    /// The target.
    #[serde(flatten)]
    pub target: BlockedTarget,
    /// The number of attempts in the log. Suppressed lines do not count.
    pub attempts: u64,
    /// The time of the newest attempt.
    pub newest: Timestamp,
    /// The protocols that the guest used.
    pub asked: BTreeSet<AskedBy>,
    /// The reason for the newest denial.
    pub reason: Option<Reason>,
}

/// Denied attempts by target.
#[derive(Debug, Default)]
pub struct BlockedAttempts {
    by_target: HashMap<BlockedTarget, Blocked>,
}

impl BlockedAttempts {
    /// Counts an entry. Returns the updated count of its target, or `None` if it is not a denial.
    pub fn add(&mut self, entry: &Entry) -> Option<&Blocked> {
        if entry.verdict != Outcome::Denied {
            return None;
        }
        let target = match (&entry.name, entry.address) {
            (Some(name), _) => BlockedTarget::Name { name: name.clone() },
            (None, Some(address)) => BlockedTarget::Address {
                address,
                port: entry.port,
                transport: entry.transport,
            },
            (None, None) => BlockedTarget::Nothing {},
        };
        if self.by_target.len() >= MOST_TARGETS && !self.by_target.contains_key(&target) {
            self.discard_older_half();
        }
        let blocked = self.by_target.entry(target.clone()).or_insert(Blocked {
            target,
            attempts: 0,
            newest: entry.time,
            asked: BTreeSet::new(),
            reason: None,
        });
        blocked.attempts += 1;
        blocked.asked.insert(entry.asked);
        if entry.time >= blocked.newest {
            blocked.newest = entry.time;
            blocked.reason = entry.reason;
        }
        Some(blocked)
    }

    fn discard_older_half(&mut self) {
        let mut times: Vec<_> = self.by_target.values().map(|known| known.newest).collect();
        let middle = times.len() / 2;
        let (_, median, _) = times.select_nth_unstable(middle);
        let median = *median;
        self.by_target.retain(|_, known| known.newest > median);
    }

    /// Returns all targets, the newest attempt first.
    pub fn newest_first(&self) -> Vec<&Blocked> {
        let mut all: Vec<_> = self.by_target.values().collect();
        all.sort_by(|one, other| (other.newest, &one.target).cmp(&(one.newest, &other.target)));
        all
    }
}
