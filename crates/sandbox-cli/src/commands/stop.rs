//! `sandbox stop`: power down, then nothing is left.

use std::time::Duration;

use super::context::Context;
use super::{ExitStatus, Outcome, target};
use crate::cli::StopArguments;
use crate::output::Report;
use sandbox::lifecycle::{self, Found};
use sandbox_protocol::control::{Connection, Request};
use sandbox_protocol::{Event, Failure};

/// What a supervisor may take beyond the guest's grace: `quit`, a kill, and
/// removing files.
const SUPERVISOR_GRACE: Duration = Duration::from_secs(15);

/// How long a killed supervisor's lock may stay.
const DEATH: Duration = Duration::from_secs(5);

pub(super) async fn run(context: &Context, arguments: &StopArguments) -> Outcome {
    let found = if arguments.all {
        lifecycle::list(&context.directories)?
    } else if arguments.sandboxes.is_empty() {
        vec![target::running(context, None)?]
    } else {
        arguments
            .sandboxes
            .iter()
            .map(|name| target::running(context, Some(name)))
            .collect::<Result<_, _>>()?
    };
    if found.is_empty() {
        context.printer.notice("no sandbox is running");
        return Ok(ExitStatus::SUCCESS);
    }
    let grace = Duration::from_secs(arguments.timeout.into());
    // All at once: each needs its own seconds to power down.
    let mut stopping = tokio::task::JoinSet::new();
    for sandbox in found {
        let directories = context.directories.clone();
        stopping.spawn(async move {
            let name = sandbox.name.clone();
            (name, stop(&directories, sandbox, grace).await)
        });
    }
    let mut progress = context.printer.progress();
    progress.step("stopping");
    let mut first_failure = None;
    while let Some(joined) = stopping.join_next().await {
        let Ok((name, result)) = joined else { continue };
        match result {
            Ok(()) => progress.suspend(|| context.printer.notice(format_args!("stopped `{name}`"))),
            Err(report) => first_failure = first_failure.or(Some(report)),
        }
    }
    progress.finish();
    first_failure.map_or(Ok(ExitStatus::SUCCESS), Err)
}

async fn stop(
    directories: &sandbox_host::directories::Directories,
    found: Found,
    grace: Duration,
) -> Result<(), Report> {
    let told = tokio::time::timeout(grace + SUPERVISOR_GRACE, ask(&found, grace)).await;
    if let Ok(Some(())) = told {
        return Ok(());
    }
    // A supervisor that does not answer is killed; its QEMU dies with it.
    if let Some(record) = found.record() {
        record
            .supervisor
            .kill_if_marked(found.name.as_str().as_ref());
    }
    let gone = async {
        while matches!(lifecycle::find(directories, &found.name), Ok(Some(_))) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(DEATH, gone).await.map_err(|_| {
        Report::from(Failure {
            message: format!("the sandbox `{}` does not end", found.name),
            causes: Vec::new(),
            last_lines: Vec::new(),
            hint: Some(format!("see `sandbox logs --supervisor {}`", found.name).into()),
        })
    })
}

/// Asks the supervisor and waits for its last event; `None` if it does not
/// get that far.
async fn ask(found: &Found, grace: Duration) -> Option<()> {
    let socket = found.layout.control_socket();
    let mut connection = Connection::open(&socket, Request::stop(grace)).await.ok()?;
    while let Some(event) = connection.next_event().await.ok()? {
        if matches!(event.event, Event::Ended { .. }) {
            return Some(());
        }
    }
    None
}
