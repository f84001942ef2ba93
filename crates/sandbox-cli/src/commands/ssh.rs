//! `sandbox ssh`: OpenSSH with all that it needs to know.

use std::os::unix::process::CommandExt;
use std::process::Command;

use super::context::Context;
use super::start::{self, Start};
use super::{ExitStatus, Outcome, target};
use crate::cli::SshArguments;
use crate::output::Report;
use sandbox::ssh::openssh_command;
use sandbox_host::notices::Notices;

pub(super) async fn run(context: &Context, arguments: &SshArguments) -> Outcome {
    let found = target::running(context, None)?;
    let mut notices = Notices::of_process()?;
    let joined = start::join(context, found.name, found.layout, &mut notices);
    let Start::Ready(ready) = joined.await? else {
        return Ok(ExitStatus::INTERRUPTED);
    };
    let endpoint = ready.layout.endpoint(&ready.name, ready.ssh_port, "dev")?;
    let mut words = openssh_command(&endpoint).into_iter();
    // OpenSSH takes options behind the destination, too, and what follows
    // them as the command; so nobody here has to know which ones have a value.
    let error = Command::new(words.next().unwrap_or_else(|| "ssh".into()))
        .args(words)
        .args(&arguments.arguments)
        .exec();
    Err(Report::of(
        &error,
        Some("install OpenSSH's client: `apt install openssh-client`".into()),
    ))
}
