//! `sandbox logs`.

use super::context::Context;
use super::{ExitStatus, Outcome};
use crate::cli::LogsArguments;
use sandbox::{follow_log, last_lines};
use sandbox_host::notices::{Notice, Notices};
use sandbox_spec::SandboxName;

pub(super) async fn run(
    context: &Context,
    name: Option<&SandboxName>,
    arguments: &LogsArguments,
) -> Outcome {
    let found = context.running(arguments.name.given().or(name))?;
    let log = match arguments.supervisor {
        true => found.layout.supervisor_log(),
        false => found.layout.console_log(),
    };
    if !arguments.follow {
        for line in last_lines(&log, arguments.lines)? {
            context.printer.data(line)?;
        }
        return Ok(ExitStatus::SUCCESS);
    }
    let mut notices = Notices::of_process()?;
    let mut interrupted = false;
    let stop = async {
        while !matches!(notices.next().await, Notice::Termination(_)) {}
        interrupted = true;
    };
    let show = |text: &str| context.printer.raw_data(text);
    follow_log(&log, arguments.lines, show, stop).await?;
    Ok(if interrupted {
        ExitStatus::INTERRUPTED
    } else {
        ExitStatus::SUCCESS
    })
}
