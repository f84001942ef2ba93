//! `sandbox run`: a sandbox of its own for one command.

use super::context::Context;
use super::enter::refuse_nesting;
use super::start::{self, Start};
use super::{ExitStatus, Outcome, session, target};
use crate::cli::RunArguments;
use crate::output::Report;
use sandbox::{Lifetime, lifecycle};
use sandbox_host::notices::Notices;
use sandbox_protocol::control::Request;
use sandbox_spec::SandboxName;

pub(super) async fn run(context: &Context, arguments: RunArguments) -> Outcome {
    refuse_nesting()?;
    let mut notices = Notices::of_process()?;
    let workspace = target::workspace()?;
    let name = own_name(context)?;
    let lifetime = match arguments.keep {
        true => Lifetime::Persistent,
        false => Lifetime::Attached,
    };
    let start = start::ensure(context, name, &workspace, lifetime, &mut notices);
    let mut ready = match start.await? {
        Start::Ready(ready) => ready,
        Start::Interrupted => return Ok(ExitStatus::INTERRUPTED),
    };
    let outcome = session::command(context, &mut ready, arguments.options, &mut notices).await;
    if arguments.keep {
        context.printer.notice(format_args!(
            "`{0}` keeps running: `sandbox exec --name {0} -- COMMAND`, `sandbox stop {0}`",
            ready.name
        ));
    } else if ready.connection.ask(Request::Discard).await.is_ok() {
        session::until_ended(context, &mut ready).await;
    }
    outcome
}

/// The name that the user chose, if it is free; else a new one.
fn own_name(context: &Context) -> Result<SandboxName, Report> {
    let Some(name) = &context.settings.name else {
        let suffix = std::fs::read_to_string("/proc/sys/kernel/random/uuid")?;
        let suffix: String = suffix.chars().take(8).collect();
        return Ok(format!("run-{suffix}").parse()?);
    };
    if lifecycle::find(&context.directories, name)?.is_some() {
        return Err(Report::new(
            format!("the sandbox `{name}` runs already"),
            Some(format!("run the command in it: `sandbox exec --name {name} -- COMMAND`").into()),
        ));
    }
    Ok(name.clone())
}
