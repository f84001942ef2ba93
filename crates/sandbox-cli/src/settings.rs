//! The user's configuration file, `~/.config/sandbox/config.toml`.
//!
//! A project file would override the user's file, and the environment would override both. It is
//! untrusted input, so it needs an approval of its exact content first.

use std::path::{Path, PathBuf};

use sandbox::{Hint, StartOptions};
use sandbox_host::files::{self, FileError};

/// The maximum size of the file in bytes. A configuration has a few lines.
const SIZE_LIMIT: u64 = 1 << 20;

/// Errors of the configuration file.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigurationError {
    /// The file could not be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// The file is not TOML, or has an unknown key or an invalid value.
    #[error("`{}` is not a valid configuration", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// The position and the reason.
        #[source]
        source: Box<toml::de::Error>,
    },
    /// The file is not UTF-8.
    #[error("`{}` is not valid UTF-8", .0.display())]
    NotText(PathBuf),
}

impl ConfigurationError {
    /// Returns the fix.
    pub(crate) fn hint(&self) -> Option<Hint> {
        match self {
            Self::File(error) => error.hint(),
            Self::Format { path, .. } | Self::NotText(path) => Some(
                format!(
                    "fix or remove `{}`; docs/configuration.md lists the keys",
                    path.display()
                )
                .into(),
            ),
        }
    }
}

/// Reads the file. A missing file is an empty configuration.
pub(crate) fn read(path: &Path) -> Result<StartOptions, ConfigurationError> {
    let Some(content) = files::read_if_present(path, SIZE_LIMIT)? else {
        return Ok(StartOptions::default());
    };
    let content =
        String::from_utf8(content).map_err(|_| ConfigurationError::NotText(path.into()))?;
    toml::from_str(&content).map_err(|source| ConfigurationError::Format {
        path: path.into(),
        source: Box::new(source),
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use sandbox::TemplatePolicy;
    use sandbox_spec::ShareMode;

    use super::*;

    #[test]
    fn options_with_unknown_key_or_invalid_value_are_refused() {
        for (text, expected) in [
            ("memry = \"2G\"", "unknown field `memry`"),
            ("memory = \"2X\"", "invalid memory size `2X`"),
            ("cpus = 0", "invalid processor count `0`"),
            ("accel = \"hvf\"", "hvf"),
            ("shares = [\"/a\"]", "HOST:GUEST"),
            ("ready-timeout = \"soon\"", "`soon` is not a duration"),
            ("templates = \"on\"", "invalid template policy `on`"),
            ("template-space = \"1M\"", "invalid template space `1M`"),
            (
                "network = \"internet\"",
                "invalid network preset `internet`",
            ),
            ("net-rules = [\"allow\"]", "invalid rule `allow`"),
            ("publish = [\"80\"]", "invalid published port `80`"),
            (
                "dns = \"dns.example\"",
                "invalid resolver address `dns.example`",
            ),
            ("max-connections = 0", "invalid connection limit `0`"),
            ("secrets = [\"TOKEN\"]", "invalid secret `TOKEN`"),
        ] {
            let error = toml::from_str::<StartOptions>(text)
                .unwrap_err()
                .to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn options_with_every_key_are_read() {
        let file = toml::from_str::<StartOptions>(
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
