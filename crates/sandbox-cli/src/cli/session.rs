//! `exec` and `run`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;

use sandbox::EnvironmentVariable;

use super::{NameOption, StartArguments};

/// Options of a command in the guest.
#[derive(Debug, Args)]
pub(crate) struct CommandOptions {
    /// User, by name or number
    #[arg(short, long, default_value = "dev")]
    pub user: String,

    /// Directory to start in; relative paths start at the workspace
    #[arg(short, long, value_name = "DIRECTORY", default_value = sandbox_spec::guest::WORKSPACE)]
    pub workdir: PathBuf,

    /// Set a variable; without a value, copy it from here (can be repeated)
    #[arg(short, long = "env", value_name = "NAME[=VALUE]", value_parser = variable)]
    pub env: Vec<EnvironmentVariable>,

    /// Allocate a terminal
    #[arg(short, long, overrides_with = "no_tty")]
    pub tty: bool,

    /// Allocate no terminal (the default)
    #[arg(short = 'T', long, overrides_with = "tty")]
    pub no_tty: bool,

    /// Command and arguments, passed on unchanged; put `--` before them
    #[arg(required = true, trailing_var_arg = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

/// Arguments of `exec`.
#[derive(Debug, Args)]
pub(crate) struct ExecArguments {
    /// The sandbox.
    #[command(flatten)]
    pub name: NameOption,

    /// The command.
    #[command(flatten)]
    pub options: CommandOptions,
}

/// Arguments of `run`.
#[derive(Debug, Args)]
pub(crate) struct RunArguments {
    /// Keep the sandbox running afterwards
    #[arg(long)]
    pub keep: bool,

    /// The sandbox.
    #[command(flatten)]
    pub name: NameOption,

    /// Start options.
    #[command(flatten)]
    pub start: StartArguments,

    /// The command.
    #[command(flatten)]
    pub options: CommandOptions,
}

fn variable(text: &str) -> Result<EnvironmentVariable, String> {
    if text.is_empty() {
        return Err("the variable has no name\n\nhint: give a name, as in `NAME=value`".into());
    }
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, OsString::from(value)),
        None => match std::env::var_os(text) {
            Some(value) => (text, value),
            None => {
                return Err(format!(
                    "variable `{text}` is not set on the host\n\nhint: give a value, as in `{text}=value`"
                ));
            }
        },
    };
    EnvironmentVariable::new(name.into(), value).map_err(|error| error.to_string())
}
