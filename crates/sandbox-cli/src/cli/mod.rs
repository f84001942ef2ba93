//! The command line's words: clap types and nothing else. Help, man page and
//! completions come from here; `commands` gives them their meaning.

mod image;
mod output;
mod proxy;
mod session;
mod start;
mod template;
mod values;
mod words;

use clap::{Args, Parser, Subcommand};

pub(crate) use image::{ImageArguments, ImageCommand};
pub(crate) use output::OutputOptions;
pub(crate) use proxy::{DomainArguments, PortArguments, PortCommand, ProxyArguments, ProxyCommand};
pub(crate) use session::{CommandOptions, ExecArguments, RunArguments};
pub(crate) use start::{MachineArguments, StartArguments};
pub(crate) use template::{TemplateArguments, TemplateBuildArguments, TemplateCommand};

use self::values::{whole_number, with_hint};
use sandbox_spec::SandboxName;

/// A virtual machine of its own for a project directory.
///
/// Without a command: starts the sandbox of the current directory if it does
/// not run yet, and opens a shell in it.
#[derive(Debug, Parser)]
#[command(
    name = "sandbox",
    version,
    max_term_width = 100,
    disable_help_subcommand = true,
    after_help = "Files of the current directory are at /home/dev/workspace in the sandbox; everything else in it is thrown away when it stops."
)]
pub(crate) struct Cli {
    /// How the tool speaks.
    #[command(flatten)]
    pub output: OutputOptions,

    /// Use a virtual machine: the default, and the only kind there is
    #[arg(long, global = true)]
    pub kvm: bool,

    /// Which sandbox.
    #[command(flatten)]
    pub name: NameOption,

    /// What a start is made of.
    #[command(flatten)]
    pub start: StartArguments,

    /// Print the start plan with the whole QEMU command line, and change nothing
    #[arg(long)]
    pub dry_run: bool,

    /// The command.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a command in the running sandbox
    Exec(ExecArguments),
    /// Run one command in a sandbox of its own, and stop that
    Run(RunArguments),
    /// Power a sandbox down and remove all that is left of it
    Stop(StopArguments),
    /// List the running sandboxes
    #[command(visible_alias = "ls")]
    List(JsonArguments),
    /// Show a sandbox: its state, how to reach it, where its files are
    Info(InfoArguments),
    /// Attach to the serial console; Ctrl-] leaves
    Console(NameArguments),
    /// Enter with OpenSSH; further arguments are passed to `ssh`
    Ssh(SshArguments),
    /// Show what the console has printed
    Logs(LogsArguments),
    /// Edit the list of allowed domains; show what was denied and what passed
    Proxy(ProxyArguments),
    /// Lead ports of this machine into a running sandbox
    Port(PortArguments),
    /// Build, list and remove base images
    Image(ImageArguments),
    /// Build, list and remove saved guests, from which sandboxes start at once
    Template(TemplateArguments),
    /// Show what images, templates, sandboxes and logs take on the disk
    Df(JsonArguments),
    /// Remove what nothing needs any more
    Prune(PruneArguments),
    /// Check whether this machine can run sandboxes, and what would mend it
    Doctor(JsonArguments),
    /// Print a script that completes commands in a shell
    Completions(CompletionsArguments),
    /// Serve the other commands, by a hand-over on standard input
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

    /// Which sandbox.
    #[command(flatten)]
    pub name: NameOption,
}

impl NameArguments {
    /// The sandbox that was named either way.
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

    /// Which sandbox.
    #[command(flatten)]
    pub name: NameOption,

    /// Stop every sandbox
    #[arg(short, long)]
    pub all: bool,

    /// How many seconds the guest has to power itself down; 0 cuts the power
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
    /// Remove every template that no running sandbox uses, too
    #[arg(short, long)]
    pub all: bool,

    /// Show what would be removed, and remove nothing
    #[arg(short = 'n', long = "dry-run")]
    pub preview: bool,

    /// Ask nothing
    #[arg(short, long)]
    pub yes: bool,
}

/// Arguments of `info`.
#[derive(Debug, Args)]
pub(crate) struct InfoArguments {
    /// Which sandbox.
    #[command(flatten)]
    pub name: NameArguments,
    /// In which form.
    #[command(flatten)]
    pub json: JsonArguments,
}

/// Arguments of `ssh`.
#[derive(Debug, Args)]
pub(crate) struct SshArguments {
    /// Which sandbox.
    #[command(flatten)]
    pub name: NameOption,

    /// Arguments for `ssh`: its options, or a command
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
    /// Which sandbox.
    #[command(flatten)]
    pub name: NameArguments,

    /// Go on showing what is added, until the sandbox ends
    #[arg(short, long)]
    pub follow: bool,

    /// How many of the last lines
    #[arg(short = 'n', long, value_name = "COUNT", default_value_t = 1000, value_parser = whole_number::<usize>)]
    pub lines: usize,

    /// Show the supervisor's own messages instead
    #[arg(long)]
    pub supervisor: bool,
}

/// Arguments of `completions`.
#[derive(Debug, Args)]
pub(crate) struct CompletionsArguments {
    /// The shell
    pub shell: clap_complete::Shell,
}

/// Arguments of a process with a role.
#[derive(Debug, Args)]
pub(crate) struct RoleArguments {
    /// What it serves; shown in process lists
    pub subject: String,
}
