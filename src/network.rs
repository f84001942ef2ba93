//! The specification of a sandbox's network.

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

/// The specification of a sandbox's network.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct NetworkSpec {
    /// The preset and the rules.
    pub policy: Policy,
    /// Whether the guest can reach allowlisted domains only.
    pub proxy: bool,
    /// The directory of the allowlist and of the access log in proxy mode.
    pub proxy_directory: PathBuf,
    /// The whole allowlist, if the program gives one. The list is then stored with the sandbox.
    #[serde(default)]
    pub allowlist: Option<Vec<DomainPattern>>,
    /// The ports of the host that forward to the guest.
    pub published: Vec<PublishedPort>,
    /// The DNS resolver that replaces the host's.
    pub dns: Option<ResolverAddress>,
    /// The maximum number of concurrent connections of the guest.
    pub max_connections: ConnectionLimit,
    /// The maximum bandwidth in each direction.
    pub bandwidth: Option<Bandwidth>,
    /// The secrets, whose values stay on the host.
    pub secrets: Vec<SecretSpec>,
    /// The certificate authority that the guest trusts, if there are secrets.
    pub authority: Option<AuthorityParts>,
}

impl NetworkSpec {
    /// Returns the configuration of the gateway; `directory` as for [`Self::policy_engine_config`].
    pub fn gateway_config(&self, directory: &Path) -> GatewayConfig {
        GatewayConfig {
            policy_engine: self.policy_engine_config(directory, true),
            connections: usize::try_from(self.max_connections.get()).unwrap_or(usize::MAX),
            bytes_per_second: self.bandwidth.map(Bandwidth::bytes),
            secrets: self.secrets.clone(),
            authority: self.authority.clone(),
        }
    }

    /// Returns the configuration of the policy engine. `directory` contains the allowlist and the
    /// access log (see [`sandbox_host::directories::Directories::proxy`]).
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

    /// Returns the network without the values of secrets, for the record.
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
    fn summary_contains_no_secret_values() {
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
        // The supervisor needs the value, so the plan contains it.
        let plan = serde_json::to_string(&spec).unwrap();
        let read: NetworkSpec = serde_json::from_str(&plan).unwrap();
        assert_eq!(read.secrets[0].value.expose(), "s3cr3t");
        assert_eq!(read.secrets[0].placeholder, spec.secrets[0].placeholder);
    }

    #[test]
    fn policy_engine_config_points_into_the_directory() {
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
