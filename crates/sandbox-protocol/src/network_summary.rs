//! A sandbox's network, as far as it may be written down.

use sandbox_spec::policy::Policy;
use sandbox_spec::publish::PublishedPort;
use sandbox_spec::resolver_address::ResolverAddress;
use sandbox_spec::secret::SecretSummary;
use sandbox_spec::{Bandwidth, ConnectionLimit};
use serde::{Deserialize, Serialize};

/// A sandbox's network as its record tells it: without the values of secrets.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkSummary {
    /// Preset and rules.
    #[serde(flatten)]
    pub policy: Policy,
    /// Whether only listed domains are allowed.
    pub proxy: bool,
    /// Ports of the host that lead into the guest.
    pub published: Vec<PublishedPort>,
    /// The resolver that is asked in place of the host's.
    pub dns: Option<ResolverAddress>,
    /// How many connections the guest may have at once.
    pub max_connections: ConnectionLimit,
    /// How much it may carry each way, in bytes a second.
    pub bandwidth: Option<Bandwidth>,
    /// Values that stay outside, and who gets them.
    pub secrets: Vec<SecretSummary>,
}
