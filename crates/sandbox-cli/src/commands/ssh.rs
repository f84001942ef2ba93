//! `sandbox ssh`: enters a sandbox with OpenSSH.

use std::os::unix::process::CommandExt;
use std::process::Command;

use sandbox_host::notices::Notices;
use sandbox_spec::SandboxName;

use super::context::Context;
use super::{ExitStatus, Outcome, start};
use crate::cli::SshArguments;
use crate::output::Report;

pub(super) async fn run(
    context: &Context,
    name: Option<&SandboxName>,
    arguments: &SshArguments,
) -> Outcome {
    let found = context.running(arguments.name.name.as_ref().or(name))?;
    let mut notices = Notices::of_process()?;
    let Some(sandbox) = start::join(context, found, &mut notices).await? else {
        return Ok(ExitStatus::INTERRUPTED);
    };
    let mut words = sandbox.ssh_endpoint("dev")?.openssh_command().into_iter();
    // OpenSSH also accepts options after the destination, and the command after them. So this code
    // need not know the options with a value.
    let error = Command::new(words.next().unwrap_or_else(|| "ssh".into()))
        .args(words)
        .args(&arguments.arguments)
        .exec();
    Err(Report::of(
        &error,
        Some("install the OpenSSH client: `apt install openssh-client`".into()),
    ))
}
