//! `sandbox console`.

use super::context::Context;
use super::{ExitStatus, Outcome};
use crate::cli::NameArguments;
use crate::console::Console;
use sandbox_host::notices::Notices;
use sandbox_host::streams::Streams;
use sandbox_spec::SandboxName;

pub(super) async fn run(
    context: &Context,
    name: Option<&SandboxName>,
    arguments: &NameArguments,
) -> Outcome {
    let found = context.running(arguments.given().or(name))?;
    let mut notices = Notices::of_process()?;
    let console = Console::connect(&found.layout.console_socket()).await?;
    context.printer.notice(Console::WELCOME);
    let left = console.attach(Streams::inherited()?, &mut notices).await?;
    context.printer.notice(left);
    Ok(ExitStatus(left.exit_code()))
}
