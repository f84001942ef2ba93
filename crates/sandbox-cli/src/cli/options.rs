//! Options of every command.

use crate::output::worded_hint;
use sandbox_host::hint::Hint;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::settings::parse_duration;
use sandbox_spec::domain::DomainError;
use sandbox_spec::policy::{Preset, Rule, RuleError};
use sandbox_spec::publish::{PublishError, PublishedPort};
use sandbox_spec::resolver_address::{InvalidResolver, ResolverAddress};
use sandbox_spec::secret::{SecretError, SecretRequest};
use sandbox_spec::{
    AcceleratorChoice, Bandwidth, ConnectionLimit, CpuCount, DiskSize, ImageReference, MemorySize,
    NameError, SandboxName, Share, ShareError, ShareMode, SizeError, TemplatePolicy,
};

/// What a start is made of, and how the tool speaks.
#[derive(Debug, Args)]
pub(crate) struct GlobalOptions {
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

    /// What the guest may reach: `none`, `public` addresses, `private` ones too,
    /// or `all`, this machine included [default: public]
    #[arg(long, global = true, env = "SANDBOX_NETWORK", value_name = "PRESET", value_parser = with_hint::<Preset>, help_heading = "Network")]
    pub network: Option<Preset>,

    /// A rule that comes before the preset, such as `allow@10.1.2.3:tcp:443`
    /// or `deny@*.example.com`; may be repeated, the first that matches wins
    #[arg(long, global = true, value_name = "RULE", value_parser = with_hint::<Rule>, help_heading = "Network")]
    pub net_rule: Vec<Rule>,

    /// Only allowed domains, nothing else; `sandbox proxy` edits the list
    #[arg(long, global = true, env = "SANDBOX_PROXY", value_name = "BOOLEAN", num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_possible_values = true, help_heading = "Network")]
    pub proxy: Option<bool>,

    /// Lead a port of this machine into the guest; may be repeated
    #[arg(short, long, global = true, value_name = "[ADDR:]HOST:GUEST[/udp]", value_parser = with_hint::<PublishedPort>, help_heading = "Network")]
    pub publish: Vec<PublishedPort>,

    /// Resolve names by this server [default: as this machine does]
    #[arg(long, global = true, env = "SANDBOX_DNS", value_name = "ADDR[:PORT]", value_parser = with_hint::<ResolverAddress>, help_heading = "Network")]
    pub dns: Option<ResolverAddress>,

    /// How many connections the guest may have at once [default: 1024]
    #[arg(long, global = true, env = "SANDBOX_MAX_CONNECTIONS", value_name = "NUMBER", value_parser = with_hint::<ConnectionLimit>, help_heading = "Network")]
    pub max_connections: Option<ConnectionLimit>,

    /// How many bytes a second the guest may carry each way, such as `10M`
    #[arg(long, global = true, env = "SANDBOX_BANDWIDTH", value_name = "SIZE", value_parser = with_hint::<Bandwidth>, help_heading = "Network")]
    pub bandwidth: Option<Bandwidth>,

    /// Give the value of this variable to these hosts, and a placeholder to the
    /// guest; may be repeated
    #[arg(long, global = true, value_name = "NAME@HOST[,HOST…]", value_parser = secret_of_variable, help_heading = "Network")]
    pub secret: Vec<SecretRequest>,

    /// The same with a value from a file; may be repeated
    #[arg(long, global = true, value_name = "NAME=PATH@HOST[,HOST…]", value_parser = secret_of_file, help_heading = "Network")]
    pub secret_file: Vec<SecretRequest>,

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
pub(crate) enum ColorChoice {
    /// On a terminal, unless `NO_COLOR` is set
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

impl ColorChoice {
    /// Makes the choice known to the streams that decide on colours.
    pub(crate) fn apply(self) {
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
    fn hint(&self) -> Option<Hint>;
}

macro_rules! hinted {
    ($($error:ty),* $(,)?) => {
        $(impl Hinted for $error {
            fn hint(&self) -> Option<Hint> {
                <$error>::hint(self)
            }
        })*
    };
}

hinted!(
    NameError,
    SizeError,
    ShareError,
    DomainError,
    RuleError,
    PublishError,
    InvalidResolver,
    SecretError,
    sandbox_spec::ReferenceError,
    sandbox_spec::accelerator::UnknownAccelerator,
    sandbox_spec::InvalidKey,
    sandbox_spec::UnknownPolicy,
);

/// Parses a count; the error names it, and what would be one.
pub(super) fn whole_number<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.parse()
        .map_err(|_| format!("`{text}` is not a whole number\n\nhint: give a number such as `10`"))
}

/// Parses a value; the error is followed by its hint.
pub(super) fn with_hint<T: std::str::FromStr<Err: Hinted>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error: T::Err| worded(&error))
}

fn worded(error: &impl Hinted) -> String {
    match error.hint() {
        Some(hint) => format!("{error}\n\nhint: {}", worded_hint(&hint)),
        None => error.to_string(),
    }
}

fn secret_of_variable(text: &str) -> Result<SecretRequest, String> {
    SecretRequest::of_variable(text).map_err(|error| worded(&error))
}

fn secret_of_file(text: &str) -> Result<SecretRequest, String> {
    SecretRequest::of_file(text).map_err(|error| worded(&error))
}
