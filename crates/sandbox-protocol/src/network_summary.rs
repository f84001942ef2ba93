//! The network of a sandbox in its record.

use sandbox_spec::policy::Policy;
use sandbox_spec::publish::PublishedPort;
use sandbox_spec::resolver_address::ResolverAddress;
use sandbox_spec::secret::SecretSummary;
use sandbox_spec::{Bandwidth, ConnectionLimit};
use serde::{Deserialize, Serialize};

/// The network of a sandbox without the values of its secrets.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkSummary {
    /// The preset and the rules.
    #[serde(flatten)]
    pub policy: Policy,
    /// Whether proxy mode allows the domains of the allowlist only.
    pub proxy: bool,
    /// The host ports that forward to the guest.
    pub published: Vec<PublishedPort>,
    /// The resolver that replaces the host's.
    pub dns: Option<ResolverAddress>,
    /// The maximum number of simultaneous connections of the guest.
    pub max_connections: ConnectionLimit,
    /// The maximum bandwidth each way, in bytes per second.
    pub bandwidth: Option<Bandwidth>,
    /// The secrets and their hosts.
    pub secrets: Vec<SecretSummary>,
}
