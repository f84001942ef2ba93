//! `sandbox console`.

use super::context::Context;
use super::{ExitStatus, Outcome, target};
use crate::cli::NameArguments;
use sandbox::console::Console;
use sandbox_host::notices::Notices;
use sandbox_host::streams::Streams;

pub(super) async fn run(context: &Context, arguments: &NameArguments) -> Outcome {
    let found = target::running(context, arguments.sandbox.as_ref())?;
    let mut notices = Notices::of_process()?;
    let console = Console::connect(&found.layout.console_socket()).await?;
    context.printer.notice(Console::WELCOME);
    let left = console.attach(Streams::inherited()?, &mut notices).await?;
    context.printer.notice(left);
    Ok(ExitStatus(left.exit_code()))
}
