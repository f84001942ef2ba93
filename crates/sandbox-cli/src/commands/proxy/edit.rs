//! `sandbox proxy allow`, `remove`, `reset` and `list`.

use super::{Subject, uses_allowlist};
use crate::cli::DomainArguments;
use crate::commands::context::Context;
use crate::commands::{ExitStatus, Outcome, gateway};
use crate::output::Report;
use sandbox_gateway::allowlist::{Added, Fault, Removed};
use sandbox_protocol::gateway::GatewayCommand;
use sandbox_spec::domain::DomainPattern;

pub(super) async fn allow(
    context: &Context,
    subject: &Subject,
    arguments: &DomainArguments,
) -> Outcome {
    for added in subject.list().add(&arguments.domains)? {
        match added {
            Added::New { pattern } => context.printer.notice(format_args!("allowed `{pattern}`")),
            Added::Already { pattern, by } if pattern == by => context
                .printer
                .notice(format_args!("`{pattern}` is already on the allowlist")),
            Added::Already { pattern, by } => context
                .printer
                .notice(format_args!("`{pattern}` is already allowed by `{by}`")),
        }
    }
    take_effect(context, subject, arguments.cut).await
}

pub(super) async fn remove(
    context: &Context,
    subject: &Subject,
    arguments: &DomainArguments,
) -> Outcome {
    let mut absent = Vec::new();
    for removed in subject.list().remove(&arguments.domains)? {
        match removed {
            Removed::Gone { pattern } => {
                context.printer.notice(format_args!("removed `{pattern}`"));
            }
            Removed::StillAllowed { pattern, by } => context
                .printer
                .warning(format_args!("`{pattern}` is still allowed by `{by}`")),
            Removed::NotListed { pattern } => absent.push(pattern),
        }
    }
    let status = take_effect(context, subject, arguments.cut).await?;
    if absent.is_empty() {
        return Ok(status);
    }
    let names: Vec<String> = absent.iter().map(|name| format!("`{name}`")).collect();
    Err(Report::new(
        format!("not on the allowlist: {}", names.join(", ")),
        Some("run `sandbox proxy list` to list the entries".into()),
    ))
}

pub(super) async fn reset(context: &Context, subject: &Subject, cut: bool) -> Outcome {
    subject.list().reset()?;
    context.printer.notice("restored the default allowlist");
    take_effect(context, subject, cut).await
}

/// Ends connections with `--cut`. Warns if the sandbox does not use the allowlist.
async fn take_effect(context: &Context, subject: &Subject, cut: bool) -> Outcome {
    if let Some(found) = subject.running(context)?
        && !uses_allowlist(&found)
    {
        context.printer.warning(format_args!(
            "`{}` runs without `--proxy` and ignores the allowlist",
            subject.name
        ));
    }
    if cut {
        for user in subject.users(context)? {
            gateway::ask(&user, GatewayCommand::Cut).await?;
        }
    }
    Ok(ExitStatus::SUCCESS)
}

pub(super) fn list(context: &Context, subject: &Subject, json: bool) -> Outcome {
    let (entries, faults) = subject.list().entries()?;
    warn_of(context, &faults);
    if json {
        context.printer.json(&entries)?;
        return Ok(ExitStatus::SUCCESS);
    }
    let widest = entries
        .iter()
        .map(|entry| entry.pattern.to_string().len())
        .max()
        .unwrap_or_default();
    for entry in entries {
        let DomainLine { pattern, comment } = DomainLine::of(&entry.pattern, entry.comment);
        match comment {
            Some(comment) => context
                .printer
                .data(format_args!("{pattern:<widest$}  # {comment}"))?,
            None => context.printer.data(pattern)?,
        }
    }
    Ok(ExitStatus::SUCCESS)
}

/// An entry as text.
struct DomainLine {
    pattern: String,
    comment: Option<String>,
}

impl DomainLine {
    fn of(pattern: &DomainPattern, comment: Option<String>) -> Self {
        Self {
            pattern: pattern.to_string(),
            comment: comment.filter(|comment| !comment.is_empty()),
        }
    }
}

/// Warns of the invalid lines.
pub(super) fn warn_of(context: &Context, faults: &[Fault]) {
    for Fault { line, error } in faults {
        context.printer.warning(format_args!(
            "line {line} of the allowlist was ignored: {error}"
        ));
    }
}
