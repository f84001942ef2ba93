//! `sandbox ssh`: OpenSSH with all that it needs to know.

use std::os::unix::process::CommandExt;
use std::process::Command;

use super::context::Context;
use super::start::{self, Start};
use super::{ExitStatus, Outcome, target};
use crate::cli::SshArguments;
use crate::host::notices::Notices;
use crate::output::Report;
use crate::ssh::openssh_command;

pub(super) async fn run(context: &Context, arguments: &SshArguments) -> Outcome {
    let found = target::running(context, None)?;
    let mut notices = Notices::of_process()?;
    let joined = start::join(context, found.name, found.layout, &mut notices);
    let Start::Ready(ready) = joined.await? else {
        return Ok(ExitStatus::INTERRUPTED);
    };
    let endpoint = ready.layout.endpoint(&ready.name, ready.ssh_port, "dev")?;
    let mut words = openssh_command(&endpoint);
    let destination = words.pop();
    let program = words.first().cloned().unwrap_or_else(|| "ssh".into());
    // The user's options come before the destination, a command after it.
    let command_at = arguments
        .arguments
        .iter()
        .position(|word| !word.to_string_lossy().starts_with('-'))
        .unwrap_or(arguments.arguments.len());
    let (options, command) = arguments.arguments.split_at(command_at);
    let error = Command::new(&program)
        .args(words.iter().skip(1))
        .args(options)
        .args(destination)
        .args(command)
        .exec();
    Err(Report::of(
        &error,
        Some("install OpenSSH's client: `apt install openssh-client`".into()),
    ))
}
