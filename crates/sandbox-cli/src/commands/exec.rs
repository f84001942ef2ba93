//! `sandbox exec`: a command in the running sandbox.

use super::context::Context;
use super::start::{self, Start};
use super::{ExitStatus, Outcome, session, target};
use crate::cli::ExecArguments;
use sandbox_host::notices::Notices;

pub(super) async fn run(context: &Context, arguments: ExecArguments) -> Outcome {
    let found = target::running(context, None)?;
    let mut notices = Notices::of_process()?;
    let joined = start::join(context, found.name, found.layout, &mut notices);
    match joined.await? {
        Start::Ready(mut ready) => {
            session::command(context, &mut ready, arguments.options, &mut notices).await
        }
        Start::Interrupted => Ok(ExitStatus::INTERRUPTED),
    }
}
