//! Shared by the benches: the program under test, and its timing.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

pub(crate) type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Returns `sandbox ARGUMENTS…` in `directory`, without stdin and stdout. Only
/// `template build` builds templates.
pub(crate) fn sandbox_command(directory: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sandbox"));
    command
        .args(arguments)
        .env("SANDBOX_TEMPLATES", "manual")
        .current_dir(directory)
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    command
}

/// Returns the duration of the command, which must succeed.
pub(crate) fn time(command: &mut Command) -> Result<Duration> {
    let started = Instant::now();
    match command.status()? {
        status if status.success() => Ok(started.elapsed()),
        status => Err(format!("{command:?} ended with {status}").into()),
    }
}
