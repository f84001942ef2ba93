//! `sandbox stop`: powers sandboxes down, and removes their state.

use std::time::Duration;

use sandbox::ErrorKind;
use sandbox_spec::SandboxName;

use super::context::Context;
use super::{ExitStatus, Outcome};
use crate::cli::StopArguments;
use crate::output::Report;

pub(super) async fn run(
    context: &Context,
    name: Option<&SandboxName>,
    arguments: &StopArguments,
) -> Outcome {
    let names = if arguments.all {
        context.host.stoppable()?
    } else if arguments.sandboxes.is_empty() {
        vec![context.name(arguments.name.name.as_ref().or(name))?]
    } else {
        arguments.sandboxes.clone()
    };
    if names.is_empty() {
        context.printer.notice("no sandbox is running");
        return Ok(ExitStatus::SUCCESS);
    }
    if !arguments.all {
        // An unknown name must fail before the first sandbox stops.
        for name in &names {
            context.host.stoppable_named(name)?;
        }
    }
    let grace = Duration::from_secs(arguments.timeout.into());
    // Concurrently, since each guest may take seconds to power down.
    let mut stopping = tokio::task::JoinSet::new();
    for name in names {
        let host = context.host.clone();
        stopping.spawn(async move {
            let stopped = host.stop(&name, grace).await;
            (name, stopped)
        });
    }
    let mut progress = context.printer.progress();
    progress.step("stopping");
    let mut first_failure = None;
    while let Some(joined) = stopping.join_next().await {
        let Ok((name, result)) = joined else { continue };
        match result {
            Ok(()) => progress.suspend(|| context.printer.notice(format_args!("stopped `{name}`"))),
            // Another command stopped it first.
            Err(error) if arguments.all && error.kind() == ErrorKind::NotFound => {}
            Err(error) => first_failure = first_failure.or(Some(Report::from(error))),
        }
    }
    progress.finish();
    first_failure.map_or(Ok(ExitStatus::SUCCESS), Err)
}
