//! Options of every command.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::image::ImageReference;
use crate::qemu::accelerator::AcceleratorChoice;
use crate::sandbox::{CpuCount, DiskSize, MemorySize, NameError, SandboxName, SizeError};
use crate::settings::parse_duration;
use crate::share::{Share, ShareError, ShareMode};
use crate::template::TemplatePolicy;

/// What a start is made of, and how the tool speaks.
#[derive(Debug, Args)]
pub struct GlobalOptions {
    /// The sandbox's name [default: `sandbox-` and the directory's name]
    #[arg(long, global = true, env = "SANDBOX_NAME", value_parser = with_hint::<SandboxName>)]
    pub name: Option<SandboxName>,

    /// Base image [default: debian-13]
    #[arg(long, global = true, env = "SANDBOX_IMAGE", value_parser = with_hint::<ImageReference>, help_heading = "Machine")]
    pub image: Option<ImageReference>,

    /// Number of processors [default: 2]
    #[arg(long, global = true, env = "SANDBOX_CPUS", value_name = "NUMBER", value_parser = with_hint::<CpuCount>, help_heading = "Machine")]
    pub cpus: Option<CpuCount>,

    /// Memory, with a unit [default: 2G]
    #[arg(long, global = true, env = "SANDBOX_MEMORY", value_name = "SIZE", value_parser = with_hint::<MemorySize>, help_heading = "Machine")]
    pub memory: Option<MemorySize>,

    /// Size of the root disk, which takes only what is written [default: 20G]
    #[arg(long, global = true, env = "SANDBOX_DISK", value_name = "SIZE", value_parser = with_hint::<DiskSize>, help_heading = "Machine")]
    pub disk: Option<DiskSize>,

    /// How processors run: `auto`, `kvm` or `tcg` [default: auto]
    #[arg(long, global = true, env = "SANDBOX_ACCEL", value_name = "KIND", value_parser = with_hint::<AcceleratorChoice>, help_heading = "Machine")]
    pub accel: Option<AcceleratorChoice>,

    /// Share another host directory; may be repeated
    #[arg(long, global = true, value_name = "HOST:GUEST[:ro]", value_parser = with_hint::<Share>, help_heading = "Machine")]
    pub share: Vec<Share>,

    /// How owners and modes in shares are kept: `mapped` in extended
    /// attributes, or `passthrough` as they are [default: mapped]
    #[arg(long, global = true, env = "SANDBOX_SHARE_MODE", value_name = "MODE", value_parser = with_hint::<ShareMode>, help_heading = "Machine")]
    pub share_mode: Option<ShareMode>,

    /// A cloud-config to apply at the start
    #[arg(
        long,
        global = true,
        env = "SANDBOX_CLOUD_INIT",
        value_name = "FILE",
        help_heading = "Machine"
    )]
    pub cloud_init: Option<PathBuf>,

    /// How long the guest may take to become ready [default: 2m, emulated 10m]
    #[arg(long, global = true, env = "SANDBOX_READY_TIMEOUT", value_name = "DURATION", value_parser = parse_duration, help_heading = "Machine")]
    pub ready_timeout: Option<Duration>,

    /// What to do with saved guests: `auto` starts from one and makes it in the
    /// background, `manual` starts from one that is there, `off` boots [default: auto]
    #[arg(long, global = true, env = "SANDBOX_TEMPLATES", value_name = "MODE", value_parser = with_hint::<TemplatePolicy>, help_heading = "Machine")]
    pub templates: Option<TemplatePolicy>,

    /// Boot, without a saved guest: `--templates off`
    #[arg(long, global = true, help_heading = "Machine")]
    pub cold: bool,

    /// Say nothing but errors
    #[arg(
        short,
        long,
        global = true,
        conflicts_with = "verbose",
        help_heading = "Output"
    )]
    pub quiet: bool,

    /// Say more
    #[arg(short, long, global = true, help_heading = "Output")]
    pub verbose: bool,

    /// Show progress as lines, not as a moving one
    #[arg(long, global = true, help_heading = "Output")]
    pub no_progress: bool,

    /// When to use colours
    #[arg(
        long,
        global = true,
        value_name = "WHEN",
        default_value = "auto",
        help_heading = "Output"
    )]
    pub color: ColorChoice,
}

/// When to use colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ColorChoice {
    /// On a terminal, unless `NO_COLOR` is set
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

impl ColorChoice {
    /// Makes the choice known to the streams that decide on colours.
    pub fn apply(self) {
        match self {
            Self::Auto => anstream::ColorChoice::Auto,
            Self::Always => anstream::ColorChoice::Always,
            Self::Never => anstream::ColorChoice::Never,
        }
        .write_global();
    }
}

/// An error that knows what the user can do.
pub(super) trait Hinted: std::fmt::Display {
    fn hint(&self) -> Option<String>;
}

macro_rules! hinted {
    ($($error:ty),* $(,)?) => {
        $(impl Hinted for $error {
            fn hint(&self) -> Option<String> {
                <$error>::hint(self)
            }
        })*
    };
}

hinted!(
    NameError,
    SizeError,
    ShareError,
    crate::image::ReferenceError,
    crate::qemu::accelerator::AcceleratorError,
    crate::template::InvalidKey,
    crate::template::UnknownPolicy,
);

/// Parses a count; the error names it, and what would be one.
pub(super) fn whole_number<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.parse()
        .map_err(|_| format!("`{text}` is not a whole number\n\nhint: give a number such as `10`"))
}

/// Parses a value; the error is followed by its hint.
pub(super) fn with_hint<T: std::str::FromStr<Err: Hinted>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error: T::Err| match error.hint() {
        Some(hint) => format!("{error}\n\nhint: {hint}"),
        None => error.to_string(),
    })
}
