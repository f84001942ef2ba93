//! `sandbox --kvm`: start if needed, then a shell.

use std::io::IsTerminal;

use super::context::Context;
use super::start::{self, Start};
use super::{ExitStatus, Outcome, session, target};
use sandbox::Lifetime;
use sandbox_host::notices::Notices;

/// Set in every session of a guest.
const INSIDE_VARIABLE: &str = "SANDBOX_CONTAINER";

pub(super) async fn run(context: &Context) -> Outcome {
    refuse_nesting()?;
    let mut notices = Notices::of_process()?;
    let workspace = target::workspace()?;
    let name = target::name(context, None)?;
    let start = start::ensure(
        context,
        name,
        &workspace,
        Lifetime::Persistent,
        &mut notices,
    );
    let mut ready = match start.await? {
        Start::Ready(ready) => ready,
        Start::Interrupted => return Ok(ExitStatus::INTERRUPTED),
    };
    if std::io::stdin().is_terminal() {
        return session::shell(context, &mut ready, &mut notices).await;
    }
    let verb = if ready.started {
        "is ready"
    } else {
        "runs already"
    };
    context.printer.notice(format_args!(
        "`{}` {verb}: enter with `sandbox --kvm` in a terminal, or run `sandbox exec -- COMMAND`",
        ready.name
    ));
    Ok(ExitStatus::SUCCESS)
}

/// A sandbox in a sandbox would be emulated twice, and its workspace would be
/// the same directory through two shares.
pub(super) fn refuse_nesting() -> Result<(), crate::output::Report> {
    match std::env::var(INSIDE_VARIABLE) {
        Ok(outer) if !outer.is_empty() => Err(crate::output::Report::new(
            format!("this is the inside of the sandbox `{outer}`"),
            Some(format!("leave it first, or unset `{INSIDE_VARIABLE}` if you mean it").into()),
        )),
        _ => Ok(()),
    }
}
