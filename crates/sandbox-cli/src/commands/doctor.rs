//! `sandbox doctor`.

use super::context::Context;
use super::{ExitStatus, Outcome};
use crate::cli::JsonArguments;
use sandbox::doctor::{self, Outcome as Found};

pub(super) fn run(context: &Context, arguments: &JsonArguments) -> Outcome {
    let findings = doctor::run_all(&doctor::Context::new(context.directories.clone()));
    if arguments.json {
        context.printer.json(&findings)?;
    } else {
        for finding in &findings {
            let word = match finding.outcome {
                Found::Ok => "ok",
                Found::Warning => "warning",
                Found::Failure => "failure",
            };
            context.printer.data(format_args!(
                "{word:<8} {}: {}",
                finding.check, finding.detail
            ))?;
            if let Some(mend) = &finding.mend {
                context.printer.data(format_args!("         {mend}"))?;
            }
        }
    }
    Ok(match doctor::worst(&findings) {
        Found::Failure => ExitStatus::FAILURE,
        Found::Ok | Found::Warning => ExitStatus::SUCCESS,
    })
}
