//! The options of a start, from a configuration file, the environment, flags or a program.

use std::path::PathBuf;
use std::time::Duration;

use sandbox_spec::policy::{Preset, Rule};
use sandbox_spec::publish::PublishedPort;
use sandbox_spec::resolver_address::ResolverAddress;
use sandbox_spec::secret::{SecretError, SecretRequest};
use sandbox_spec::{
    AcceleratorChoice, Bandwidth, ConnectionLimit, CpuCount, DiskSize, ImageReference, MemorySize,
    Share, ShareMode, TemplatePolicy, TemplateSpace,
};
use serde::{Deserialize, Deserializer, de};

/// The options of a start. `None` and empty lists stand for options that are not set.
///
/// Deserialized, its keys are those of the configuration file (docs/configuration.md).
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
#[non_exhaustive]
pub struct StartOptions {
    /// The base image.
    #[serde(deserialize_with = "text")]
    pub image: Option<ImageReference>,
    /// The number of processors.
    #[serde(deserialize_with = "number")]
    pub cpus: Option<CpuCount>,
    /// The memory size, as `"2G"`.
    pub memory: Option<MemorySize>,
    /// The size of the root disk, as `"20G"`.
    pub disk: Option<DiskSize>,
    /// The accelerator: `"auto"`, `"kvm"` or `"tcg"`.
    #[serde(rename = "accel", deserialize_with = "text")]
    pub accelerator: Option<AcceleratorChoice>,
    /// Whether the guest can use KVM itself.
    pub nested_virtualization: Option<bool>,
    /// The shares besides the workspace, as `"HOST:GUEST[:ro]"`.
    #[serde(deserialize_with = "texts")]
    pub shares: Vec<Share>,
    /// How shares store owners and modes: `"mapped"` or `"passthrough"`.
    pub share_mode: Option<ShareMode>,
    /// The path of a cloud-config file.
    pub cloud_init: Option<PathBuf>,
    /// How long the guest may take to become ready, as `"3m"`.
    #[serde(deserialize_with = "duration")]
    pub ready_timeout: Option<Duration>,
    /// The use of templates: `"auto"`, `"manual"` or `"off"`.
    #[serde(deserialize_with = "text")]
    pub templates: Option<TemplatePolicy>,
    /// The maximum disk space of all templates, as `"8G"`.
    pub template_space: Option<TemplateSpace>,
    /// The network preset: `"none"`, `"public"`, `"private"` or `"all"`.
    #[serde(deserialize_with = "text")]
    pub network: Option<Preset>,
    /// The network rules, as `"allow@10.1.2.3:tcp:443"`. The first rule that matches wins.
    #[serde(deserialize_with = "texts")]
    pub net_rules: Vec<Rule>,
    /// Whether the guest can reach allowlisted domains only.
    pub proxy: Option<bool>,
    /// The published ports, as `"8080:80"`.
    #[serde(deserialize_with = "texts")]
    pub publish: Vec<PublishedPort>,
    /// The DNS resolver, as `"192.0.2.53"`.
    #[serde(deserialize_with = "text")]
    pub dns: Option<ResolverAddress>,
    /// The maximum number of concurrent connections of the guest.
    #[serde(deserialize_with = "number")]
    pub max_connections: Option<ConnectionLimit>,
    /// The maximum bandwidth in each direction, in bytes per second, as `"10M"`.
    pub bandwidth: Option<Bandwidth>,
    /// The secrets from the environment, as `"NAME@HOST"`; never their values.
    #[serde(deserialize_with = "variable_secrets")]
    pub secrets: Vec<SecretRequest>,
    /// The secrets from files, as `"NAME=PATH@HOST"`.
    #[serde(deserialize_with = "file_secrets")]
    pub secret_files: Vec<SecretRequest>,
}

impl StartOptions {
    /// Returns these options, with unset ones filled from `weaker`.
    ///
    /// Lists are joined. Rules of these options come first, since the first that matches wins.
    /// Their shares and ports come last. A secret replaces a weaker one of the same name.
    #[must_use]
    pub fn combine(self, weaker: Self) -> Self {
        let own = [&self.secrets[..], &self.secret_files].concat();
        let is_given = |weaker: &SecretRequest| own.iter().any(|own| own.name == weaker.name);
        let join_secrets = |weaker: Vec<SecretRequest>, own: Vec<SecretRequest>| {
            let kept = weaker.into_iter().filter(|secret| !is_given(secret));
            kept.chain(own).collect()
        };
        Self {
            image: self.image.or(weaker.image),
            cpus: self.cpus.or(weaker.cpus),
            memory: self.memory.or(weaker.memory),
            disk: self.disk.or(weaker.disk),
            accelerator: self.accelerator.or(weaker.accelerator),
            nested_virtualization: self.nested_virtualization.or(weaker.nested_virtualization),
            shares: [weaker.shares, self.shares].concat(),
            share_mode: self.share_mode.or(weaker.share_mode),
            cloud_init: self.cloud_init.or(weaker.cloud_init),
            ready_timeout: self.ready_timeout.or(weaker.ready_timeout),
            templates: self.templates.or(weaker.templates),
            template_space: self.template_space.or(weaker.template_space),
            network: self.network.or(weaker.network),
            net_rules: [self.net_rules, weaker.net_rules].concat(),
            proxy: self.proxy.or(weaker.proxy),
            publish: [weaker.publish, self.publish].concat(),
            dns: self.dns.or(weaker.dns),
            max_connections: self.max_connections.or(weaker.max_connections),
            bandwidth: self.bandwidth.or(weaker.bandwidth),
            secrets: join_secrets(weaker.secrets, self.secrets),
            secret_files: join_secrets(weaker.secret_files, self.secret_files),
        }
    }
}

/// Parses a duration such as `90s`, `3m` or `1h 30m`.
///
/// # Errors
/// Returns a message for the user, with a hint on its own line.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let span: jiff::SignedDuration = text.parse().map_err(|_| {
        format!(
            "`{text}` is not a duration\n\nhint: give a number with a unit, such as `90s` or `3m`"
        )
    })?;
    match Duration::try_from(span) {
        Ok(duration) if !duration.is_zero() => Ok(duration),
        _ => Err(format!(
            "`{text}` is not a positive duration\n\nhint: give more than zero, such as `90s` or `3m`"
        )),
    }
}

fn text<'de, D: Deserializer<'de>, T: std::str::FromStr<Err: std::fmt::Display>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map(Some).map_err(de::Error::custom)
}

fn number<'de, D: Deserializer<'de>, T: std::str::FromStr<Err: std::fmt::Display>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    let number = u64::deserialize(deserializer)?;
    number
        .to_string()
        .parse()
        .map(Some)
        .map_err(de::Error::custom)
}

fn texts<'de, D: Deserializer<'de>, T: std::str::FromStr<Err: std::fmt::Display>>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    Vec::<String>::deserialize(deserializer)?
        .iter()
        .map(|text| text.parse().map_err(de::Error::custom))
        .collect()
}

fn variable_secrets<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<SecretRequest>, D::Error> {
    secrets(deserializer, SecretRequest::of_variable)
}

fn file_secrets<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<SecretRequest>, D::Error> {
    secrets(deserializer, SecretRequest::of_file)
}

fn secrets<'de, D: Deserializer<'de>>(
    deserializer: D,
    read: fn(&str) -> Result<SecretRequest, SecretError>,
) -> Result<Vec<SecretRequest>, D::Error> {
    Vec::<String>::deserialize(deserializer)?
        .iter()
        .map(|text| read(text).map_err(de::Error::custom))
        .collect()
}

fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    parse_duration(&String::deserialize(deserializer)?)
        .map(Some)
        .map_err(de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(secrets: &[SecretRequest]) -> Vec<&str> {
        secrets.iter().map(|secret| &*secret.name).collect()
    }

    #[test]
    fn combine_prefers_own_values() {
        let stronger = StartOptions {
            cpus: Some("4".parse().unwrap()),
            proxy: Some(false),
            ..StartOptions::default()
        };
        let weaker = StartOptions {
            cpus: Some("2".parse().unwrap()),
            memory: Some("1G".parse().unwrap()),
            proxy: Some(true),
            ..StartOptions::default()
        };
        let combined = stronger.combine(weaker);
        assert_eq!(combined.cpus.unwrap().get(), 4);
        assert_eq!(combined.memory.unwrap().to_string(), "1G");
        assert_eq!(combined.proxy, Some(false));
    }

    #[test]
    fn combine_puts_stronger_rules_first_and_stronger_shares_last() {
        let options = |rule: &str, share: &str| StartOptions {
            net_rules: vec![rule.parse().unwrap()],
            shares: vec![share.parse().unwrap()],
            ..StartOptions::default()
        };
        let combined = options("allow@10.9.1.1", "/b:/mnt/b")
            .combine(options("deny@10.9.0.0/16", "/a:/mnt/a"));
        let rules: Vec<_> = combined.net_rules.iter().map(ToString::to_string).collect();
        assert_eq!(rules, ["allow@10.9.1.1", "deny@10.9.0.0/16"]);
        let guests: Vec<_> = combined
            .shares
            .iter()
            .map(|share| share.guest.as_str())
            .collect();
        assert_eq!(guests, ["/mnt/a", "/mnt/b"]);
    }

    #[test]
    fn combine_replaces_secrets_of_the_same_name() {
        let weaker = StartOptions {
            secrets: vec![
                SecretRequest::of_variable("TOKEN@a.example").unwrap(),
                SecretRequest::of_variable("OTHER@b.example").unwrap(),
            ],
            ..StartOptions::default()
        };
        let stronger = StartOptions {
            secret_files: vec![SecretRequest::of_file("TOKEN=/t@d.example").unwrap()],
            ..StartOptions::default()
        };
        let combined = stronger.combine(weaker);
        assert_eq!(names(&combined.secrets), ["OTHER"]);
        assert_eq!(names(&combined.secret_files), ["TOKEN"]);
    }
}
