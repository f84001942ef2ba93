//! `exec` and `run`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;

use sandbox::EnvironmentVariable;

use super::{NameOption, StartArguments};

/// How a command runs in the guest.
#[derive(Debug, Args)]
pub(crate) struct CommandOptions {
    /// The user, by name or number
    #[arg(short, long, default_value = "dev")]
    pub user: String,

    /// The directory to start in; a relative one counts from the workspace
    #[arg(short, long, value_name = "DIRECTORY", default_value = sandbox_spec::guest::WORKSPACE)]
    pub workdir: PathBuf,

    /// Set a variable; without a value, take this process's. May be repeated
    #[arg(short, long = "env", value_name = "NAME[=VALUE]", value_parser = variable)]
    pub env: Vec<EnvironmentVariable>,

    /// With a terminal
    #[arg(short, long, overrides_with = "no_tty")]
    pub tty: bool,

    /// Without a terminal, the default
    #[arg(short = 'T', long, overrides_with = "tty")]
    pub no_tty: bool,

    /// The command and its arguments, passed on exactly as they are; put `--`
    /// before it
    #[arg(required = true, trailing_var_arg = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

/// Arguments of `exec`.
#[derive(Debug, Args)]
pub(crate) struct ExecArguments {
    /// Which sandbox.
    #[command(flatten)]
    pub name: NameOption,

    /// How the command runs.
    #[command(flatten)]
    pub options: CommandOptions,
}

/// Arguments of `run`.
#[derive(Debug, Args)]
pub(crate) struct RunArguments {
    /// Leave the sandbox running afterwards
    #[arg(long)]
    pub keep: bool,

    /// Which sandbox.
    #[command(flatten)]
    pub name: NameOption,

    /// What its start is made of.
    #[command(flatten)]
    pub start: StartArguments,

    /// How the command runs.
    #[command(flatten)]
    pub options: CommandOptions,
}

fn variable(text: &str) -> Result<EnvironmentVariable, String> {
    if text.is_empty() {
        return Err("a variable needs a name\n\nhint: as in `NAME=value`".into());
    }
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, OsString::from(value)),
        None => match std::env::var_os(text) {
            Some(value) => (text, value),
            None => {
                return Err(format!(
                    "the variable `{text}` is not set here\n\nhint: give a value, as in `{text}=value`"
                ));
            }
        },
    };
    EnvironmentVariable::new(name.into(), value).map_err(|error| error.to_string())
}
