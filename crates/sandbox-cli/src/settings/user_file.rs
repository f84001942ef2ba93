//! `~/.config/sandbox/config.toml`.

use sandbox_host::hint::Hint;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Deserializer, de};

use sandbox_host::files;
use sandbox_host::files::FileError;
use sandbox_spec::policy::{Preset, Rule};
use sandbox_spec::publish::PublishedPort;
use sandbox_spec::resolver_address::ResolverAddress;
use sandbox_spec::secret::{SecretError, SecretRequest};
use sandbox_spec::{
    AcceleratorChoice, Bandwidth, ConnectionLimit, CpuCount, DiskSize, ImageReference, MemorySize,
    Share, ShareMode, TemplatePolicy, TemplateSpace,
};

/// A configuration is a few lines; anything larger is none.
const SIZE_LIMIT: u64 = 1 << 20;

/// Why the configuration file could not be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UserFileError {
    /// It could not be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// It is no TOML, or says what is not understood.
    #[error("`{}` is not a valid configuration", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// Where and why.
        #[source]
        source: Box<toml::de::Error>,
    },
    /// It is not text.
    #[error("`{}` is not valid UTF-8", .0.display())]
    NotText(PathBuf),
}

impl UserFileError {
    /// What the user can do about it.
    pub(crate) fn hint(&self) -> Option<Hint> {
        match self {
            Self::File(error) => error.hint(),
            Self::Format { path, .. } | Self::NotText(path) => Some(
                format!(
                    "mend or remove `{}`; docs/guide.md lists the keys",
                    path.display()
                )
                .into(),
            ),
        }
    }
}

/// The keys of the file; each is that of the flag of the same name, if there is such a flag.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(crate) struct UserFile {
    /// Base image.
    #[serde(deserialize_with = "text")]
    pub image: Option<ImageReference>,
    /// Number of processors.
    #[serde(deserialize_with = "number")]
    pub cpus: Option<CpuCount>,
    /// Memory, as `"2G"`.
    pub memory: Option<MemorySize>,
    /// Root disk, as `"20G"`.
    pub disk: Option<DiskSize>,
    /// `"auto"`, `"kvm"` or `"tcg"`.
    #[serde(rename = "accel", deserialize_with = "text")]
    pub accelerator: Option<AcceleratorChoice>,
    /// Further shares, as `"HOST:GUEST[:ro]"`.
    #[serde(deserialize_with = "texts")]
    pub shares: Vec<Share>,
    /// `"mapped"` or `"passthrough"`.
    pub share_mode: Option<ShareMode>,
    /// A cloud-config file.
    pub cloud_init: Option<PathBuf>,
    /// How long the guest may take, as `"3m"`.
    #[serde(deserialize_with = "duration")]
    pub ready_timeout: Option<Duration>,
    /// `"auto"`, `"manual"` or `"off"`.
    #[serde(deserialize_with = "text")]
    pub templates: Option<TemplatePolicy>,
    /// How much of the disk templates may take, as `"8G"`.
    pub template_space: Option<TemplateSpace>,
    /// `"none"`, `"public"`, `"private"` or `"all"`.
    #[serde(deserialize_with = "text")]
    pub network: Option<Preset>,
    /// Rules of the network, as `"allow@10.1.2.3:tcp:443"`.
    #[serde(deserialize_with = "texts")]
    pub net_rules: Vec<Rule>,
    /// Whether only listed domains are allowed.
    pub proxy: Option<bool>,
    /// Published ports, as `"8080:80"`.
    #[serde(deserialize_with = "texts")]
    pub publish: Vec<PublishedPort>,
    /// A resolver, as `"192.0.2.53"`.
    #[serde(deserialize_with = "text")]
    pub dns: Option<ResolverAddress>,
    /// How many connections the guest may have at once.
    #[serde(deserialize_with = "number")]
    pub max_connections: Option<ConnectionLimit>,
    /// Bytes a second, as `"10M"`.
    pub bandwidth: Option<Bandwidth>,
    /// Secrets of the environment, as `"NAME@HOST"`; never their values.
    #[serde(deserialize_with = "variable_secrets")]
    pub secrets: Vec<SecretRequest>,
    /// Secrets of files, as `"NAME=PATH@HOST"`.
    #[serde(deserialize_with = "file_secrets")]
    pub secret_files: Vec<SecretRequest>,
}

impl UserFile {
    /// Reads the file; its absence is an empty configuration.
    pub(crate) fn read(path: &Path) -> Result<Self, UserFileError> {
        let Some(content) = files::read_if_present(path, SIZE_LIMIT)? else {
            return Ok(Self::default());
        };
        let content =
            String::from_utf8(content).map_err(|_| UserFileError::NotText(path.into()))?;
        Self::parse(&content).map_err(|source| UserFileError::Format {
            path: path.into(),
            source: Box::new(source),
        })
    }

    pub(super) fn parse(text: &str) -> Result<Self, toml::de::Error> {
        toml::from_str(text)
    }
}

/// Parses a duration as people write it: `90s`, `3m`, `1h 30m`.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let span: jiff::SignedDuration = text.parse().map_err(|_| {
        format!(
            "`{text}` is not a duration\n\nhint: give a number with a unit, such as `90s` or `3m`"
        )
    })?;
    match Duration::try_from(span) {
        Ok(duration) if !duration.is_zero() => Ok(duration),
        _ => Err(format!(
            "`{text}` is no time at all\n\nhint: give more than zero, such as `90s` or `3m`"
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

    #[test]
    fn unknown_keys_and_bad_values_are_refused_with_their_place() {
        for (text, expected) in [
            ("memry = \"2G\"", "unknown field `memry`"),
            ("memory = \"2X\"", "`2X` is not a size"),
            ("cpus = 0", "`0` is not a number of processors"),
            ("accel = \"hvf\"", "hvf"),
            ("shares = [\"/a\"]", "HOST:GUEST"),
            ("ready-timeout = \"soon\"", "`soon` is not a duration"),
            ("templates = \"on\"", "`on` says nothing about templates"),
            ("template-space = \"1M\"", "space for templates of 1M"),
            (
                "network = \"internet\"",
                "`internet` is not a network preset",
            ),
            ("net-rules = [\"allow\"]", "`allow` is not of the form"),
            ("publish = [\"80\"]", "`80` is not of the form"),
            ("dns = \"dns.example\"", "`dns.example` is not the address"),
            ("max-connections = 0", "`0` is not a number of connections"),
            ("secrets = [\"TOKEN\"]", "`TOKEN` is not of the form"),
        ] {
            let error = UserFile::parse(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn every_key_is_understood() {
        let file = UserFile::parse(
            "image = \"debian-13-minimal\"\ncpus = 2\nmemory = \"1G\"\ndisk = \"8G\"\naccel = \"tcg\"\nshares = [\"/a:/mnt/a:ro\"]\nshare-mode = \"passthrough\"\ncloud-init = \"/c.yaml\"\nready-timeout = \"3m\"\ntemplates = \"off\"\ntemplate-space = \"3G\"\n",
        )
        .unwrap();
        assert_eq!(file.ready_timeout, Some(Duration::from_secs(180)));
        assert_eq!(file.shares.len(), 1);
        assert_eq!(file.templates, Some(TemplatePolicy::Off));
        assert_eq!(file.template_space, Some("3G".parse().unwrap()));
        assert_eq!(file.share_mode, Some(ShareMode::Passthrough));
    }
}
