//! `sandbox exec`: runs a command in the running sandbox.

use sandbox_host::notices::Notices;
use sandbox_spec::SandboxName;

use super::context::Context;
use super::{ExitStatus, Outcome, session, start};
use crate::cli::ExecArguments;

pub(super) async fn run(
    context: &Context,
    name: Option<&SandboxName>,
    arguments: ExecArguments,
) -> Outcome {
    let found = context.running(arguments.name.name.as_ref().or(name))?;
    let mut notices = Notices::of_process()?;
    match start::join(context, found, &mut notices).await? {
        Some(mut sandbox) => {
            session::command(context, &mut sandbox, arguments.options, &mut notices).await
        }
        None => Ok(ExitStatus::INTERRUPTED),
    }
}
