//! `sandbox --kvm`: start if needed, then a shell.

use std::io::IsTerminal;

use sandbox::{Lifetime, StartOptions, SupervisorKind};
use sandbox_host::notices::Notices;
use sandbox_spec::SandboxName;

use super::context::Context;
use super::{ExitStatus, Outcome, session, start};
use crate::output::Report;

/// Set in every session of a guest.
const INSIDE_VARIABLE: &str = "SANDBOX_CONTAINER";

pub(super) async fn run(
    context: &Context,
    name: Option<&SandboxName>,
    flags: StartOptions,
) -> Outcome {
    refuse_nesting()?;
    let mut notices = Notices::of_process()?;
    let mut wish = context
        .wish(flags)?
        .supervisor(SupervisorKind::Process)
        .lifetime(Lifetime::Persistent);
    if let Some(name) = name {
        wish = wish.name(name.as_str());
    }
    let wish = session::with_agent_keys(wish).await;
    let Some(sandbox) = start::start(context, wish, &mut notices).await? else {
        return Ok(ExitStatus::INTERRUPTED);
    };
    if std::io::stdin().is_terminal() {
        return session::shell(context, sandbox, &mut notices).await;
    }
    let verb = match sandbox.is_started() {
        true => "is ready",
        false => "runs already",
    };
    context.printer.notice(format_args!(
        "`{}` {verb}: enter with `sandbox --kvm` in a terminal, or run `sandbox exec -- COMMAND`",
        sandbox.name()
    ));
    Ok(ExitStatus::SUCCESS)
}

/// A sandbox in a sandbox would be emulated twice, and its workspace would be
/// the same directory through two shares.
pub(super) fn refuse_nesting() -> Result<(), Report> {
    match std::env::var(INSIDE_VARIABLE) {
        Ok(outer) if !outer.is_empty() => Err(Report::new(
            format!("this is the inside of the sandbox `{outer}`"),
            Some(format!("leave it first, or unset `{INSIDE_VARIABLE}` if you mean it").into()),
        )),
        _ => Ok(()),
    }
}
