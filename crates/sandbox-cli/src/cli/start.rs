//! Options of a start.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use sandbox::{StartOptions, parse_duration};
use sandbox_spec::policy::{Preset, Rule};
use sandbox_spec::publish::PublishedPort;
use sandbox_spec::resolver_address::ResolverAddress;
use sandbox_spec::secret::SecretRequest;
use sandbox_spec::{
    AcceleratorChoice, Bandwidth, ConnectionLimit, CpuCount, DiskSize, ImageReference, MemorySize,
    Share, ShareMode, TemplatePolicy,
};

use super::values::{secret_of_file, secret_of_variable, with_hint};

/// Options of a machine that also shape its template.
#[derive(Debug, Args)]
pub(crate) struct MachineArguments {
    /// Base image [default: debian-13]
    #[arg(long, env = "SANDBOX_IMAGE", value_parser = with_hint::<ImageReference>, help_heading = "Machine")]
    pub image: Option<ImageReference>,

    /// Number of processors [default: 2]
    #[arg(long, env = "SANDBOX_CPUS", value_name = "NUMBER", value_parser = with_hint::<CpuCount>, help_heading = "Machine")]
    pub cpus: Option<CpuCount>,

    /// Memory size [default: 2G]
    #[arg(long, env = "SANDBOX_MEMORY", value_name = "SIZE", value_parser = with_hint::<MemorySize>, help_heading = "Machine")]
    pub memory: Option<MemorySize>,

    /// Size of the sparse root disk [default: 20G]
    #[arg(long, env = "SANDBOX_DISK", value_name = "SIZE", value_parser = with_hint::<DiskSize>, help_heading = "Machine")]
    pub disk: Option<DiskSize>,

    /// Accelerator: `auto`, `kvm` or `tcg` [default: auto]
    #[arg(long, env = "SANDBOX_ACCEL", value_name = "KIND", value_parser = with_hint::<AcceleratorChoice>, help_heading = "Machine")]
    pub accel: Option<AcceleratorChoice>,

    /// Let the guest use KVM itself, where this machine allows it
    #[arg(
        long,
        env = "SANDBOX_NESTED_VIRTUALIZATION",
        num_args = 0,
        default_missing_value = "true",
        help_heading = "Machine"
    )]
    pub nested_virtualization: Option<bool>,

    /// Share another host directory (can be repeated)
    #[arg(long, value_name = "HOST:GUEST[:ro]", value_parser = with_hint::<Share>, help_heading = "Machine")]
    pub share: Vec<Share>,

    /// Time limit for the guest to become ready [default: 2m, emulated 10m]
    #[arg(long, env = "SANDBOX_READY_TIMEOUT", value_name = "DURATION", value_parser = parse_duration, help_heading = "Machine")]
    pub ready_timeout: Option<Duration>,
}

/// All options of a start.
#[derive(Debug, Args)]
pub(crate) struct StartArguments {
    /// The machine.
    #[command(flatten)]
    pub machine: MachineArguments,

    /// Storage of owners and modes in shares: `mapped` in extended attributes, `passthrough`
    /// unchanged [default: mapped]
    #[arg(long, env = "SANDBOX_SHARE_MODE", value_name = "MODE", value_parser = with_hint::<ShareMode>, help_heading = "Machine")]
    pub share_mode: Option<ShareMode>,

    /// Cloud-config to apply at the start
    #[arg(
        long,
        env = "SANDBOX_CLOUD_INIT",
        value_name = "FILE",
        help_heading = "Machine"
    )]
    pub cloud_init: Option<PathBuf>,

    /// Use of templates: `auto` restores one and builds it in the background, `manual` only
    /// restores, `off` boots [default: auto]
    #[arg(long, env = "SANDBOX_TEMPLATES", value_name = "MODE", value_parser = with_hint::<TemplatePolicy>, help_heading = "Machine")]
    pub templates: Option<TemplatePolicy>,

    /// Boot without a template, like `--templates off`
    #[arg(long, help_heading = "Machine")]
    pub cold: bool,

    /// Reachable destinations: `none`, `public` addresses, `private` (also private addresses),
    /// `all` (also this machine) [default: public]
    #[arg(long, env = "SANDBOX_NETWORK", value_name = "PRESET", value_parser = with_hint::<Preset>, help_heading = "Network")]
    pub network: Option<Preset>,

    /// Rule that precedes the preset, such as `allow@10.1.2.3:tcp:443` or `deny@*.example.com`;
    /// the first match wins (can be repeated)
    #[arg(long, value_name = "RULE", value_parser = with_hint::<Rule>, help_heading = "Network")]
    pub net_rule: Vec<Rule>,

    /// Allow HTTP(S) to allowlisted domains only; `sandbox proxy` edits the allowlist
    #[arg(long, env = "SANDBOX_PROXY", value_name = "BOOLEAN", num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_possible_values = true, help_heading = "Network")]
    pub proxy: Option<bool>,

    /// Forward a host port to the guest (can be repeated)
    #[arg(short, long, value_name = "[ADDR:]HOST:GUEST[/udp]", value_parser = with_hint::<PublishedPort>, help_heading = "Network")]
    pub publish: Vec<PublishedPort>,

    /// Resolve names with this server [default: as this machine does]
    #[arg(long, env = "SANDBOX_DNS", value_name = "ADDR[:PORT]", value_parser = with_hint::<ResolverAddress>, help_heading = "Network")]
    pub dns: Option<ResolverAddress>,

    /// Maximum number of concurrent connections [default: 1024]
    #[arg(long, env = "SANDBOX_MAX_CONNECTIONS", value_name = "NUMBER", value_parser = with_hint::<ConnectionLimit>, help_heading = "Network")]
    pub max_connections: Option<ConnectionLimit>,

    /// Maximum bytes per second in each direction, such as `10M`
    #[arg(long, env = "SANDBOX_BANDWIDTH", value_name = "SIZE", value_parser = with_hint::<Bandwidth>, help_heading = "Network")]
    pub bandwidth: Option<Bandwidth>,

    /// Give these hosts the value of this variable, and the guest a placeholder (can be repeated)
    #[arg(long, value_name = "NAME@HOST[,HOST…]", value_parser = secret_of_variable, help_heading = "Network")]
    pub secret: Vec<SecretRequest>,

    /// Like `--secret`, with the value from a file (can be repeated)
    #[arg(long, value_name = "NAME=PATH@HOST[,HOST…]", value_parser = secret_of_file, help_heading = "Network")]
    pub secret_file: Vec<SecretRequest>,
}

impl From<MachineArguments> for StartOptions {
    fn from(arguments: MachineArguments) -> Self {
        let mut options = Self::default();
        options.image = arguments.image;
        options.cpus = arguments.cpus;
        options.memory = arguments.memory;
        options.disk = arguments.disk;
        options.accelerator = arguments.accel;
        options.nested_virtualization = arguments.nested_virtualization;
        options.shares = arguments.share;
        options.ready_timeout = arguments.ready_timeout;
        options
    }
}

impl From<StartArguments> for StartOptions {
    fn from(arguments: StartArguments) -> Self {
        let mut options = Self::from(arguments.machine);
        options.share_mode = arguments.share_mode;
        options.cloud_init = arguments.cloud_init;
        options.templates = match arguments.cold {
            true => Some(TemplatePolicy::Off),
            false => arguments.templates,
        };
        options.network = arguments.network;
        options.net_rules = arguments.net_rule;
        options.proxy = arguments.proxy;
        options.publish = arguments.publish;
        options.dns = arguments.dns;
        options.max_connections = arguments.max_connections;
        options.bandwidth = arguments.bandwidth;
        options.secrets = arguments.secret;
        options.secret_files = arguments.secret_file;
        options
    }
}
