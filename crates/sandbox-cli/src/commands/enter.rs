//! `sandbox --kvm`: starts the sandbox if it is not running, and opens a shell.

use std::io::IsTerminal;

use sandbox::{Lifetime, StartOptions, SupervisorKind};
use sandbox_host::notices::Notices;
use sandbox_spec::SandboxName;

use super::context::Context;
use super::{ExitStatus, Outcome, session, start};
use crate::output::Report;

/// The variable that every session in a guest has.
const INSIDE_VARIABLE: &str = "SANDBOX_CONTAINER";

pub(super) async fn run(
    context: &Context,
    name: Option<&SandboxName>,
    flags: StartOptions,
) -> Outcome {
    refuse_nesting()?;
    let mut notices = Notices::of_process()?;
    let mut builder = context
        .builder(flags)?
        .supervisor(SupervisorKind::Process)
        .lifetime(Lifetime::Persistent);
    if let Some(name) = name {
        builder = builder.name(name.as_str());
    }
    let builder = session::with_agent_keys(builder).await;
    let Some(sandbox) = start::start(context, builder, &mut notices).await? else {
        return Ok(ExitStatus::INTERRUPTED);
    };
    if std::io::stdin().is_terminal() {
        return session::shell(context, sandbox, &mut notices).await;
    }
    let verb = match sandbox.is_started() {
        true => "is ready",
        false => "is already running",
    };
    context.printer.notice(format_args!(
        "`{}` {verb}: enter with `sandbox --kvm` in a terminal, or run `sandbox exec -- COMMAND`",
        sandbox.name()
    ));
    Ok(ExitStatus::SUCCESS)
}

/// Refuses a start inside a sandbox. The inner guest would be emulated twice, and its workspace
/// would pass through two shares.
pub(super) fn refuse_nesting() -> Result<(), Report> {
    match std::env::var(INSIDE_VARIABLE) {
        Ok(outer) if !outer.is_empty() => Err(Report::new(
            format!("could not start a sandbox inside the sandbox `{outer}`"),
            Some(format!("leave the sandbox first, or unset `{INSIDE_VARIABLE}`").into()),
        )),
        _ => Ok(()),
    }
}
