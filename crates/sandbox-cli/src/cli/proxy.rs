//! `proxy` and `port`.

use clap::{Args, Subcommand};

use super::values::{whole_number, with_hint};
use super::{JsonArguments, NameOption};
use sandbox_spec::domain::DomainPattern;
use sandbox_spec::publish::PublishedPort;

/// Arguments of `proxy`.
#[derive(Debug, Args)]
pub(crate) struct ProxyArguments {
    /// The sandbox.
    #[command(flatten)]
    pub name: NameOption,

    /// The subcommand.
    #[command(subcommand)]
    pub command: ProxyCommand,
}

/// Subcommands of `proxy`.
#[derive(Debug, Subcommand)]
pub(crate) enum ProxyCommand {
    /// Allow domains: `example.com`, `*.example.com` (below it), `.example.com` (both)
    Allow(DomainArguments),
    /// Remove domains from the allowlist
    #[command(visible_aliases = ["rm", "block"])]
    Remove(DomainArguments),
    /// Show the allowlist
    #[command(visible_alias = "ls")]
    List(JsonArguments),
    /// Restore the default allowlist
    Reset {
        /// End running connections that are no longer allowed
        #[arg(long)]
        cut: bool,
    },
    /// Show denied targets, with their attempts and sources
    Blocked {
        /// Follow new denials
        #[arg(short, long)]
        watch: bool,
        /// Output format.
        #[command(flatten)]
        json: JsonArguments,
    },
    /// Show the access log, one line per flow
    Logs {
        /// Follow new flows
        #[arg(short, long)]
        follow: bool,

        /// Number of last flows to show
        #[arg(short = 'n', long, value_name = "COUNT", default_value_t = 1000, value_parser = whole_number::<usize>)]
        lines: usize,

        /// Output format: JSON has one line per flow.
        #[command(flatten)]
        json: JsonArguments,
    },
    /// Show the allowlist and the access log: paths, content and use
    Info(JsonArguments),
    /// Ask about each denied domain: allow it once, always, or not
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
    /// The sandbox.
    #[command(flatten)]
    pub name: NameOption,

    /// The subcommand.
    #[command(subcommand)]
    pub command: PortCommand,
}

/// Subcommands of `port`.
#[derive(Debug, Subcommand)]
pub(crate) enum PortCommand {
    /// Forward host ports to the guest
    Add {
        /// Ports to forward [default address: 127.0.0.1]
        #[arg(required = true, value_name = "[ADDR:]HOST:GUEST[/udp]", value_parser = with_hint::<PublishedPort>)]
        ports: Vec<PublishedPort>,
    },
    /// Close forwarded ports (connections stay open)
    Rm {
        /// Ports to close, as `port ls` shows them
        #[arg(required = true, value_name = "[ADDR:]HOST:GUEST[/udp]", value_parser = with_hint::<PublishedPort>)]
        ports: Vec<PublishedPort>,
    },
    /// List the forwarded ports
    #[command(visible_alias = "list")]
    Ls(JsonArguments),
}
