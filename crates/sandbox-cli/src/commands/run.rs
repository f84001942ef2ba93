//! `sandbox run`: runs one command in its own sandbox.

use sandbox::{Event, Lifetime, StartOptions, SupervisorKind};
use sandbox_host::notices::Notices;
use sandbox_spec::SandboxName;

use super::context::Context;
use super::enter::refuse_nesting;
use super::start::{self, Reporter};
use super::{ExitStatus, Outcome, session};
use crate::cli::RunArguments;
use crate::output::Report;

pub(super) async fn run(
    context: &Context,
    name: Option<SandboxName>,
    before: StartOptions,
    arguments: RunArguments,
) -> Outcome {
    refuse_nesting()?;
    let mut notices = Notices::of_process()?;
    let flags = StartOptions::from(arguments.start).combine(before);
    // The sandbox uses the allowlist of its directory's sandbox, since nobody could have edited an
    // allowlist for its random name.
    let owner = context.name(name.as_ref())?;
    let name = match name {
        Some(name) => name,
        None => new_name()?,
    };
    let lifetime = match arguments.keep {
        true => Lifetime::Persistent,
        false => Lifetime::Attached,
    };
    let builder = context
        .builder(flags)?
        .name(name.as_str())
        .allowlist_of(owner)
        .fresh()
        .supervisor(SupervisorKind::Process)
        .lifetime(lifetime);
    let builder = session::with_agent_keys(builder).await;
    let Some(mut sandbox) = start::start(context, builder, &mut notices).await? else {
        return Ok(ExitStatus::INTERRUPTED);
    };
    let outcome = session::command(context, &mut sandbox, arguments.options, &mut notices).await;
    if arguments.keep {
        context.printer.notice(format_args!(
            "`{name}` is still running: enter it with `sandbox exec --name {name} -- COMMAND`, stop it with `sandbox stop {name}`"
        ));
    } else {
        let reporter = Reporter::new(context);
        // If the sandbox ended during the command, `outcome` already has the error.
        drop(sandbox.discard(|event: &Event| reporter.show(event)).await);
        reporter.finish();
    }
    outcome
}

/// Returns a random name.
fn new_name() -> Result<SandboxName, Report> {
    let uuid = std::fs::read_to_string("/proc/sys/kernel/random/uuid")?;
    let digits: String = uuid.chars().take(8).collect();
    let name = format!("run-{digits}").parse();
    name.map_err(|error: sandbox_spec::NameError| Report::of(&error, error.hint()))
}
