//! The settings of the policy engine. They are plain data, because the start plan contains them.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use sandbox_spec::policy::Policy;

/// Whether the policy engine decides flows by address or by name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// By the rules, then by the preset.
    #[default]
    Open,
    /// By the rules, then by the allowlist.
    Proxy {
        /// The allowlist's file.
        allowlist: PathBuf,
    },
}

/// The settings of one sandbox's policy engine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyEngineConfig {
    /// The preset and the rules.
    pub policy: Policy,
    /// The mode.
    pub mode: Mode,
    /// The resolver that replaces the host's.
    #[serde(default)]
    pub dns: Option<SocketAddr>,
    /// Whether the guest has IPv6. Without it, names have no IPv6 addresses.
    #[serde(default)]
    pub ipv6: bool,
    /// The directory of the access log, which must exist.
    pub log_directory: PathBuf,
}
