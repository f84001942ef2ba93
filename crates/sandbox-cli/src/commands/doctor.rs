//! `sandbox doctor`.

use super::context::Context;
use super::{ExitStatus, Outcome};
use crate::cli::JsonArguments;
use sandbox::{Finding, FindingOutcome as Found, worst_finding};

pub(super) fn run(context: &Context, arguments: &JsonArguments) -> Outcome {
    let mut findings = context.host.doctor();
    findings.push(configuration(context));
    if arguments.json {
        context.printer.json(&findings)?;
    } else {
        for finding in &findings {
            let word = finding.outcome.to_string();
            context.printer.data(format_args!(
                "{word:<8} {}: {}",
                finding.check, finding.detail
            ))?;
            if let Some(fix) = &finding.fix {
                context.printer.data(format_args!("         {fix}"))?;
            }
        }
    }
    Ok(match worst_finding(&findings) {
        Found::Failure => ExitStatus::FAILURE,
        _ => ExitStatus::SUCCESS,
    })
}

/// Checks the user's configuration file.
fn configuration(context: &Context) -> Finding {
    const CHECK: &str = "configuration";
    let path = context.host.directories().config_file();
    match context.configuration_error() {
        None => Finding::ok(CHECK, format!("`{}`", path.display())),
        Some((error, fix)) => Finding::failure(CHECK, error, fix),
    }
}
