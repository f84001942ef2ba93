//! Defaults, the user's configuration file, the environment and the flags,
//! merged once. Commands see the result and never an argument.
//!
//! A project's own file will come between the user's and the environment; it
//! is untrusted input and needs an approval of its exact content first.

mod network;
mod user_file;

use std::path::PathBuf;
use std::time::Duration;

use sandbox_spec::{
    AcceleratorChoice, CpuCount, DiskSize, ImageReference, MemorySize, SandboxName, Share,
    ShareMode, TemplatePolicy,
};
use sandbox_store::template::Limits;

pub(crate) use network::{NetworkOverrides, NetworkSettings};
pub(crate) use user_file::{UserFile, UserFileError, parse_duration};

/// What the flags and the environment say; `None` where they are silent.
#[derive(Debug, Clone, Default)]
pub(crate) struct Overrides {
    /// `--name`.
    pub name: Option<SandboxName>,
    /// `--image`.
    pub image: Option<ImageReference>,
    /// `--cpus`.
    pub cpus: Option<CpuCount>,
    /// `--memory`.
    pub memory: Option<MemorySize>,
    /// `--disk`.
    pub disk: Option<DiskSize>,
    /// `--accel`.
    pub accelerator: Option<AcceleratorChoice>,
    /// `--share`, added to those of the configuration file.
    pub shares: Vec<Share>,
    /// `--share-mode`.
    pub share_mode: Option<ShareMode>,
    /// `--cloud-init`.
    pub cloud_init: Option<PathBuf>,
    /// `--ready-timeout`.
    pub ready_timeout: Option<Duration>,
    /// `--templates`, or `off` by `--cold`.
    pub templates: Option<TemplatePolicy>,
    /// The network's.
    pub network: NetworkOverrides,
}

/// What a start uses.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// A name that the user chose.
    pub name: Option<SandboxName>,
    /// The base image.
    pub image: ImageReference,
    /// Number of processors.
    pub cpus: CpuCount,
    /// Memory.
    pub memory: MemorySize,
    /// Root disk.
    pub disk: DiskSize,
    /// How the processors run.
    pub accelerator: AcceleratorChoice,
    /// Further shares.
    pub shares: Vec<Share>,
    /// How owners and modes of shares are kept.
    pub share_mode: ShareMode,
    /// The user's cloud-config file.
    pub cloud_init: Option<PathBuf>,
    /// How long the guest may take to become ready, if the user cares.
    pub ready_timeout: Option<Duration>,
    /// What a start does with templates.
    pub templates: TemplatePolicy,
    /// How many templates are kept.
    pub template_limits: Limits,
    /// The network.
    pub network: NetworkSettings,
}

impl Settings {
    /// Merges: flags and environment win over the file, the file over the
    /// defaults (2 processors, 2G of memory, a disk of 20G, `debian-13`).
    pub(crate) fn merge(overrides: Overrides, file: UserFile) -> Self {
        let network = NetworkSettings::merge(overrides.network, &file);
        let mut shares = file.shares;
        shares.extend(overrides.shares);
        Self {
            name: overrides.name,
            image: overrides
                .image
                .or(file.image)
                .unwrap_or_else(|| valid("debian-13")),
            cpus: overrides.cpus.or(file.cpus).unwrap_or_else(|| valid("2")),
            memory: overrides
                .memory
                .or(file.memory)
                .unwrap_or_else(|| valid("2G")),
            disk: overrides.disk.or(file.disk).unwrap_or_else(|| valid("20G")),
            accelerator: overrides
                .accelerator
                .or(file.accelerator)
                .unwrap_or(AcceleratorChoice::Auto),
            shares,
            share_mode: overrides.share_mode.or(file.share_mode).unwrap_or_default(),
            cloud_init: overrides.cloud_init.or(file.cloud_init),
            ready_timeout: overrides.ready_timeout.or(file.ready_timeout),
            templates: overrides.templates.or(file.templates).unwrap_or_default(),
            template_limits: file
                .template_space
                .map_or_else(Limits::default, |space| Limits::of_space(space.bytes())),
            network,
        }
    }
}

fn valid<T: std::str::FromStr>(text: &str) -> T
where
    T::Err: std::fmt::Debug,
{
    text.parse().expect("the built-in default is valid")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_win_over_the_file_and_the_file_over_defaults() {
        let file =
            UserFile::parse("cpus = 4\nmemory = \"4G\"\nshares = [\"/a:/mnt/a\"]\n").unwrap();
        let overrides = Overrides {
            cpus: Some("1".parse().unwrap()),
            shares: vec!["/b:/mnt/b".parse().unwrap()],
            ..Overrides::default()
        };
        let settings = Settings::merge(overrides, file);
        assert_eq!(settings.cpus.get(), 1);
        assert_eq!(settings.memory.to_string(), "4G");
        assert_eq!(settings.disk.to_string(), "20G");
        assert_eq!(settings.shares.len(), 2);
    }

    #[test]
    fn templates_are_used_and_bounded_unless_somebody_says_otherwise() {
        use TemplatePolicy::{Auto, Manual, Off};
        let merge = |flag, file| {
            let overrides = Overrides {
                templates: flag,
                ..Overrides::default()
            };
            Settings::merge(overrides, UserFile::parse(file).unwrap())
        };
        for (flag, file, expected) in [
            (None, "", Auto),
            (None, "templates = \"manual\"", Manual),
            (Some(Off), "templates = \"manual\"", Off),
            (Some(Auto), "templates = \"off\"", Auto),
        ] {
            assert_eq!(merge(flag, file).templates, expected, "{flag:?} {file}");
        }
        assert_eq!(merge(None, "").template_limits, Limits::default());
        let space = merge(None, "template-space = \"3G\"").template_limits;
        assert_eq!(space, Limits::of_space(3 << 30));
    }
}
