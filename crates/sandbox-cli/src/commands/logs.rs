//! `sandbox logs`.

use super::context::Context;
use super::{ExitStatus, Outcome, target};
use crate::cli::LogsArguments;
use sandbox::console::{follow, last_lines};
use sandbox_host::notices::{Notice, Notices};

pub(super) async fn run(context: &Context, arguments: &LogsArguments) -> Outcome {
    let found = target::running(context, arguments.name.sandbox.as_ref())?;
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
    follow(&log, arguments.lines, show, stop).await?;
    Ok(if interrupted {
        ExitStatus::INTERRUPTED
    } else {
        ExitStatus::SUCCESS
    })
}
