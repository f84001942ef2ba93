//! What a policy engine is made from; plain data, since it travels in the start plan.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use sandbox_spec::policy::Policy;

/// Whether the guest's flows are decided by address or by name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// By rules and preset.
    #[default]
    Open,
    /// By rules, then by the list of allowed domains, and nothing else.
    Proxy {
        /// The list's file.
        allowlist: PathBuf,
    },
}

/// What the network of one sandbox allows, and where it writes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyEngineConfig {
    /// Preset and rules.
    pub policy: Policy,
    /// Open or proxy.
    pub mode: Mode,
    /// The resolver to ask in place of the host's.
    #[serde(default)]
    pub dns: Option<SocketAddr>,
    /// Whether the guest has IPv6; if not, names have no IPv6 addresses.
    #[serde(default)]
    pub ipv6: bool,
    /// An existing directory for the access log.
    pub log_directory: PathBuf,
}
