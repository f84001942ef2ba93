//! What a sandbox's network is to be.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use sandbox_gateway::allowlist;
use sandbox_gateway::gateway::GatewayConfig;
use sandbox_gateway::interception::AuthorityParts;
use sandbox_gateway::policy_engine::{Mode, PolicyEngineConfig};
use sandbox_protocol::NetworkSummary;
use sandbox_spec::domain::DomainPattern;
use sandbox_spec::policy::Policy;
use sandbox_spec::publish::PublishedPort;
use sandbox_spec::resolver_address::ResolverAddress;
use sandbox_spec::secret::SecretSpec;
use sandbox_spec::{Bandwidth, ConnectionLimit};

/// The network that the user asked for.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct NetworkSpec {
    /// Preset and rules.
    pub policy: Policy,
    /// Whether only listed domains are allowed.
    pub proxy: bool,
    /// Where their list lies, and the log of a sandbox in proxy mode.
    pub proxy_directory: PathBuf,
    /// The whole allowlist, where the program gives one; it then lies with the sandbox.
    #[serde(default)]
    pub allowlist: Option<Vec<DomainPattern>>,
    /// Ports of the host that lead into the guest.
    pub published: Vec<PublishedPort>,
    /// The resolver to ask in place of the host's.
    pub dns: Option<ResolverAddress>,
    /// How many connections the guest may have at once.
    pub max_connections: ConnectionLimit,
    /// How much it may carry each way.
    pub bandwidth: Option<Bandwidth>,
    /// Values that stay outside.
    pub secrets: Vec<SecretSpec>,
    /// The authority that the guest trusts, where there are secrets.
    pub authority: Option<AuthorityParts>,
}

impl NetworkSpec {
    /// What the sandbox's gateway is made from; `directory` as for [`Self::policy_engine_config`].
    pub fn gateway_config(&self, directory: &Path) -> GatewayConfig {
        GatewayConfig {
            policy_engine: self.policy_engine_config(directory, true),
            connections: usize::try_from(self.max_connections.get()).unwrap_or(usize::MAX),
            bytes_per_second: self.bandwidth.map(Bandwidth::bytes),
            secrets: self.secrets.clone(),
            authority: self.authority.clone(),
        }
    }

    /// What the policy engine is made from. `directory` is the sandbox's own for its list and
    /// its access log, see [`sandbox_host::directories::Directories::proxy`].
    pub fn policy_engine_config(&self, directory: &Path, ipv6: bool) -> PolicyEngineConfig {
        PolicyEngineConfig {
            policy: self.policy.clone(),
            mode: match self.proxy {
                true => Mode::Proxy {
                    allowlist: directory.join(allowlist::FILE),
                },
                false => Mode::Open,
            },
            dns: self.dns.map(|ResolverAddress(address)| address),
            ipv6,
            log_directory: directory.into(),
        }
    }

    /// What may be written down of it.
    pub fn summary(&self) -> NetworkSummary {
        NetworkSummary {
            policy: self.policy.clone(),
            proxy: self.proxy,
            published: self.published.clone(),
            dns: self.dns,
            max_connections: self.max_connections,
            bandwidth: self.bandwidth,
            secrets: self.secrets.iter().map(SecretSpec::summary).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sandbox_spec::secret::SecretRequest;

    #[test]
    fn a_record_of_the_network_has_no_value_of_a_secret() {
        let request = SecretRequest::of_variable("TOKEN@a.example").unwrap();
        let spec = NetworkSpec {
            proxy: true,
            secrets: vec![request.resolve(|_| Some("s3cr3t".into())).unwrap()],
            ..NetworkSpec::default()
        };
        assert!(!format!("{spec:?}").contains("s3cr3t"));
        let summary = spec.summary();
        let written = serde_json::to_string(&summary).unwrap();
        assert!(!written.contains("s3cr3t") && written.contains("TOKEN"));
        assert_eq!(
            serde_json::from_str::<NetworkSummary>(&written).unwrap(),
            summary
        );
        // The supervisor does get it.
        let plan = serde_json::to_string(&spec).unwrap();
        let read: NetworkSpec = serde_json::from_str(&plan).unwrap();
        assert_eq!(read.secrets[0].value.expose(), "s3cr3t");
        assert_eq!(read.secrets[0].placeholder, spec.secrets[0].placeholder);
    }

    #[test]
    fn the_gate_finds_list_and_log_in_the_sandboxs_directory() {
        let directory = Path::new("/state/sandbox-proxy/box");
        let mut spec = NetworkSpec::default();
        assert_eq!(spec.policy_engine_config(directory, false).mode, Mode::Open);
        spec.proxy = true;
        spec.dns = Some("192.0.2.53".parse().unwrap());
        let config = spec.policy_engine_config(directory, true);
        let allowlist = directory.join("allowlist.txt");
        assert_eq!(config.mode, Mode::Proxy { allowlist });
        assert_eq!(config.dns, Some("192.0.2.53:53".parse().unwrap()));
        assert_eq!(config.log_directory, directory);
        assert!(config.ipv6);
    }
}
