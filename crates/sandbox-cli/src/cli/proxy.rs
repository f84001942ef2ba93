//! `proxy` and `port`.

use clap::{Args, Subcommand};

use super::values::{whole_number, with_hint};
use super::{JsonArguments, NameOption};
use sandbox_spec::domain::DomainPattern;
use sandbox_spec::publish::PublishedPort;

/// Arguments of `proxy`.
#[derive(Debug, Args)]
pub(crate) struct ProxyArguments {
    /// Which sandbox.
    #[command(flatten)]
    pub name: NameOption,

    /// What to do.
    #[command(subcommand)]
    pub command: ProxyCommand,
}

/// What to do with the list of allowed domains and the access log.
#[derive(Debug, Subcommand)]
pub(crate) enum ProxyCommand {
    /// Allow domains: `example.com`, `*.example.com` for those below, `.example.com` for both
    Allow(DomainArguments),
    /// Take domains off the list
    #[command(visible_aliases = ["rm", "block"])]
    Remove(DomainArguments),
    /// Show the list
    #[command(visible_alias = "ls")]
    List(JsonArguments),
    /// Bring the default list back
    Reset {
        /// End running connections that are no longer allowed
        #[arg(long)]
        cut: bool,
    },
    /// Show what was denied, how often, and who asked
    Blocked {
        /// Go on showing what is denied
        #[arg(short, long)]
        watch: bool,
        /// In which form.
        #[command(flatten)]
        json: JsonArguments,
    },
    /// Show the access log, a line a flow
    Logs {
        /// Go on showing what is added
        #[arg(short, long)]
        follow: bool,

        /// How many of the last flows
        #[arg(short = 'n', long, value_name = "COUNT", default_value_t = 1000, value_parser = whole_number::<usize>)]
        lines: usize,

        /// In which form; a line of JSON a flow.
        #[command(flatten)]
        json: JsonArguments,
    },
    /// Show where list and log lie, what they hold, and whether they are used
    Info(JsonArguments),
    /// Ask about each domain that is denied: allow it once, always, or not
    Ask,
}

/// Domains for `proxy allow` and `proxy remove`.
#[derive(Debug, Args)]
pub(crate) struct DomainArguments {
    /// The domains
    #[arg(required = true, value_name = "DOMAIN", value_parser = with_hint::<DomainPattern>)]
    pub domains: Vec<DomainPattern>,

    /// End running connections that are no longer allowed
    #[arg(long)]
    pub cut: bool,
}

/// Arguments of `port`.
#[derive(Debug, Args)]
pub(crate) struct PortArguments {
    /// Which sandbox.
    #[command(flatten)]
    pub name: NameOption,

    /// What to do.
    #[command(subcommand)]
    pub command: PortCommand,
}

/// What to do with the ports of a running sandbox.
#[derive(Debug, Subcommand)]
pub(crate) enum PortCommand {
    /// Lead ports of this machine into the guest
    Add {
        /// The ports; the address is 127.0.0.1 unless named
        #[arg(required = true, value_name = "[ADDR:]HOST:GUEST[/udp]", value_parser = with_hint::<PublishedPort>)]
        ports: Vec<PublishedPort>,
    },
    /// Close ports again; connections that run go on
    Rm {
        /// The ports, as `port ls` shows them
        #[arg(required = true, value_name = "[ADDR:]HOST:GUEST[/udp]", value_parser = with_hint::<PublishedPort>)]
        ports: Vec<PublishedPort>,
    },
    /// List the ports that lead into the guest
    #[command(visible_alias = "list")]
    Ls(JsonArguments),
}
