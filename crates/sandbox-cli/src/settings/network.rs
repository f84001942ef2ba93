//! The network's part of the settings.

use super::UserFile;
use sandbox_spec::policy::{Preset, Rule};
use sandbox_spec::publish::PublishedPort;
use sandbox_spec::resolver_address::ResolverAddress;
use sandbox_spec::secret::SecretRequest;
use sandbox_spec::{Bandwidth, ConnectionLimit};

/// What flags and environment say of the network; `None` where they are silent.
#[derive(Debug, Clone, Default)]
pub(crate) struct NetworkOverrides {
    /// `--network`.
    pub preset: Option<Preset>,
    /// `--net-rule`, before those of the configuration file.
    pub rules: Vec<Rule>,
    /// `--proxy`.
    pub proxy: Option<bool>,
    /// `--publish`, added to those of the configuration file.
    pub published: Vec<PublishedPort>,
    /// `--dns`.
    pub dns: Option<ResolverAddress>,
    /// `--max-connections`.
    pub max_connections: Option<ConnectionLimit>,
    /// `--bandwidth`.
    pub bandwidth: Option<Bandwidth>,
    /// `--secret` and `--secret-file`; they take the place of the file's of the same name.
    pub secrets: Vec<SecretRequest>,
}

/// The network that a start uses.
#[derive(Debug, Clone)]
pub(crate) struct NetworkSettings {
    /// What counts where no rule matches.
    pub preset: Preset,
    /// In order: the flags' before the file's.
    pub rules: Vec<Rule>,
    /// Whether only listed domains are allowed.
    pub proxy: bool,
    /// Ports of the host that lead into the guest.
    pub published: Vec<PublishedPort>,
    /// The resolver to ask in place of the host's.
    pub dns: Option<ResolverAddress>,
    /// How many connections the guest may have at once.
    pub max_connections: ConnectionLimit,
    /// How much it may carry each way.
    pub bandwidth: Option<Bandwidth>,
    /// Secrets whose values are not read yet.
    pub secrets: Vec<SecretRequest>,
}

impl NetworkSettings {
    /// Merges: flags and environment win over the file, the file over the defaults (`public`,
    /// 1024 connections). Rules of the flags come first, since the first that matches wins.
    pub(super) fn merge(overrides: NetworkOverrides, file: &UserFile) -> Self {
        let is_given = |name: &str| overrides.secrets.iter().any(|given| given.name == name);
        let configured = file.secrets.iter().chain(&file.secret_files);
        let secrets: Vec<_> = configured
            .filter(|secret| !is_given(&secret.name))
            .chain(&overrides.secrets)
            .cloned()
            .collect();
        Self {
            preset: overrides.preset.or(file.network).unwrap_or_default(),
            rules: [overrides.rules, file.net_rules.clone()].concat(),
            proxy: overrides.proxy.or(file.proxy).unwrap_or_default(),
            published: [file.publish.clone(), overrides.published].concat(),
            dns: overrides.dns.or(file.dns),
            max_connections: overrides
                .max_connections
                .or(file.max_connections)
                .unwrap_or_default(),
            bandwidth: overrides.bandwidth.or(file.bandwidth),
            secrets,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{Overrides, Settings};
    use sandbox_spec::secret::SecretSource;

    const FILE: &str = r#"
network = "private"
net-rules = ["deny@10.9.0.0/16"]
proxy = true
publish = ["8080:80"]
dns = "192.0.2.53"
max-connections = 100
bandwidth = "10M"
secrets = ["TOKEN@a.example", "OTHER@b.example"]
secret-files = ["KEY=~/key@c.example"]
"#;

    fn merge(network: NetworkOverrides, file: &str) -> NetworkSettings {
        let overrides = Overrides {
            network,
            ..Overrides::default()
        };
        Settings::merge(overrides, UserFile::parse(file).unwrap()).network
    }

    #[test]
    fn the_default_is_the_public_network() {
        let settings = merge(NetworkOverrides::default(), "");
        assert_eq!(settings.preset, Preset::Public);
        assert_eq!(settings.max_connections.get(), 1024);
        assert!(!settings.proxy && settings.published.is_empty());
    }

    #[test]
    fn the_file_is_used_where_flags_are_silent() {
        let settings = merge(NetworkOverrides::default(), FILE);
        assert_eq!(settings.preset, Preset::Private);
        assert!(settings.proxy);
        assert_eq!(settings.dns.unwrap().to_string(), "192.0.2.53:53");
        assert_eq!(settings.max_connections.get(), 100);
        assert_eq!(settings.bandwidth.unwrap().bytes(), 10 << 20);
        let names: Vec<_> = settings
            .secrets
            .iter()
            .map(|secret| &*secret.name)
            .collect();
        assert_eq!(names, ["TOKEN", "OTHER", "KEY"]);
    }

    #[test]
    fn flags_win_and_their_rules_come_first() {
        let overrides = NetworkOverrides {
            preset: Some(Preset::None),
            rules: vec!["allow@10.9.1.1".parse().unwrap()],
            proxy: Some(false),
            published: vec!["8081:81".parse().unwrap()],
            secrets: vec![SecretRequest::of_file("TOKEN=/t@d.example").unwrap()],
            ..NetworkOverrides::default()
        };
        let settings = merge(overrides, FILE);
        assert_eq!(settings.preset, Preset::None);
        let rules: Vec<_> = settings.rules.iter().map(ToString::to_string).collect();
        assert_eq!(rules, ["allow@10.9.1.1", "deny@10.9.0.0/16"]);
        assert!(!settings.proxy);
        assert_eq!(settings.published.len(), 2);
        let token = settings
            .secrets
            .iter()
            .filter(|secret| secret.name == "TOKEN");
        let sources: Vec<_> = token.map(|secret| &secret.source).collect();
        assert_eq!(sources, [&SecretSource::File("/t".into())]);
    }
}
