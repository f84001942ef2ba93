//! The command line as clap types. Help, manual page and completions derive from them. `commands`
//! carries them out.

mod image;
mod output;
mod parse;
mod proxy;
mod session;
mod start;
mod template;
mod values;

use clap::{Args, Parser, Subcommand};

pub(crate) use image::{ImageArguments, ImageCommand};
pub(crate) use output::OutputOptions;
pub(crate) use proxy::{DomainArguments, PortArguments, PortCommand, ProxyArguments, ProxyCommand};
pub(crate) use session::{CommandOptions, ExecArguments, RunArguments};
pub(crate) use start::{MachineArguments, StartArguments};
pub(crate) use template::{TemplateArguments, TemplateBuildArguments, TemplateCommand};

use self::values::{whole_number, with_hint};
use sandbox_spec::SandboxName;

/// Give a project directory its own virtual machine.
///
/// Without a command, start the sandbox of the current directory if it is not running, and open a
/// shell in it.
#[derive(Debug, Parser)]
#[command(
    name = "sandbox",
    version,
    max_term_width = 100,
    disable_help_subcommand = true,
    after_help = "The current directory is mounted at /home/dev/workspace in the sandbox. Everything else in the sandbox is discarded when it stops."
)]
pub(crate) struct Cli {
    /// Output options.
    #[command(flatten)]
    pub output: OutputOptions,

    /// Use a virtual machine (the default and only kind)
    #[arg(long, global = true)]
    pub kvm: bool,

    /// The sandbox.
    #[command(flatten)]
    pub name: NameOption,

    /// Start options.
    #[command(flatten)]
    pub start: StartArguments,

    /// Print the start plan with the whole QEMU command line, and change nothing
    #[arg(long)]
    pub dry_run: bool,

    /// The command.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a command in the running sandbox
    Exec(ExecArguments),
    /// Run one command in its own sandbox, then stop the sandbox
    Run(Box<RunArguments>),
    /// Power down a sandbox and remove its state
    Stop(StopArguments),
    /// List the running sandboxes
    #[command(visible_alias = "ls")]
    List(JsonArguments),
    /// Show a sandbox's state, access commands and paths
    Info(InfoArguments),
    /// Attach to the serial console (Ctrl-] leaves)
    Console(NameArguments),
    /// Enter with OpenSSH, passing further arguments to `ssh`
    Ssh(SshArguments),
    /// Show the console output
    Logs(LogsArguments),
    /// Edit the allowlist, and show denied and allowed connections
    Proxy(ProxyArguments),
    /// Forward host ports to a running sandbox
    Port(PortArguments),
    /// Build, list and remove base images
    Image(ImageArguments),
    /// Build, list and remove templates: saved guests that starts restore
    Template(TemplateArguments),
    /// Show the disk usage of images, templates, sandboxes and logs
    Df(JsonArguments),
    /// Remove unused data
    Prune(PruneArguments),
    /// Check this machine, and print the fix of each problem
    Doctor(JsonArguments),
    /// Print completions for a shell
    Completions(CompletionsArguments),
    /// Serve other commands, as instructed on standard input
    #[command(name = sandbox::program::ARGUMENT, hide = true)]
    Role(RoleArguments),
}

/// A sandbox by name.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct NameOption {
    /// The sandbox's name [default: `sandbox-` and the directory's name]
    #[arg(long, env = "SANDBOX_NAME", value_parser = with_hint::<SandboxName>)]
    pub name: Option<SandboxName>,
}

/// A sandbox by name, as an argument or as an option.
#[derive(Debug, Args)]
pub(crate) struct NameArguments {
    /// The sandbox [default: the one of the current directory]
    #[arg(conflicts_with = "name", value_parser = with_hint::<SandboxName>)]
    pub sandbox: Option<SandboxName>,

    /// The sandbox.
    #[command(flatten)]
    pub name: NameOption,
}

impl NameArguments {
    /// Returns the name that was given as an argument or as an option.
    pub(crate) fn given(&self) -> Option<&SandboxName> {
        self.sandbox.as_ref().or(self.name.name.as_ref())
    }
}

/// Arguments of `stop`.
#[derive(Debug, Args)]
pub(crate) struct StopArguments {
    /// The sandboxes [default: the one of the current directory]
    #[arg(conflicts_with_all = ["all", "name"], value_parser = with_hint::<SandboxName>)]
    pub sandboxes: Vec<SandboxName>,

    /// The sandbox.
    #[command(flatten)]
    pub name: NameOption,

    /// Stop all sandboxes
    #[arg(short, long)]
    pub all: bool,

    /// Seconds the guest has to power down; 0 cuts the power
    #[arg(short, long, value_name = "SECONDS", default_value_t = 10, value_parser = whole_number::<u32>)]
    pub timeout: u32,
}

/// Arguments of commands that can print JSON.
#[derive(Debug, Args)]
pub(crate) struct JsonArguments {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `prune`.
#[derive(Debug, Args)]
pub(crate) struct PruneArguments {
    /// Also remove every template that no running sandbox uses
    #[arg(short, long)]
    pub all: bool,

    /// List unused data, and remove nothing
    #[arg(short = 'n', long = "dry-run")]
    pub preview: bool,

    /// Do not ask for confirmation
    #[arg(short, long)]
    pub yes: bool,
}

/// Arguments of `info`.
#[derive(Debug, Args)]
pub(crate) struct InfoArguments {
    /// The sandbox.
    #[command(flatten)]
    pub name: NameArguments,
    /// Output format.
    #[command(flatten)]
    pub json: JsonArguments,
}

/// Arguments of `ssh`.
#[derive(Debug, Args)]
pub(crate) struct SshArguments {
    /// The sandbox.
    #[command(flatten)]
    pub name: NameOption,

    /// Options for `ssh`, or a command
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "ARGUMENTS"
    )]
    pub arguments: Vec<std::ffi::OsString>,
}

/// Arguments of `logs`.
#[derive(Debug, Args)]
pub(crate) struct LogsArguments {
    /// The sandbox.
    #[command(flatten)]
    pub name: NameArguments,

    /// Follow the output until the sandbox ends
    #[arg(short, long)]
    pub follow: bool,

    /// Number of last lines to show
    #[arg(short = 'n', long, value_name = "COUNT", default_value_t = 1000, value_parser = whole_number::<usize>)]
    pub lines: usize,

    /// Show the supervisor's log instead
    #[arg(long)]
    pub supervisor: bool,
}

/// Arguments of `completions`.
#[derive(Debug, Args)]
pub(crate) struct CompletionsArguments {
    /// The shell
    pub shell: clap_complete::Shell,
}

/// Arguments of a process that serves other commands.
#[derive(Debug, Args)]
pub(crate) struct RoleArguments {
    /// Name of the sandbox or template, for process lists
    pub subject: String,
}
