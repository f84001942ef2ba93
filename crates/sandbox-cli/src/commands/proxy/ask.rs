//! `sandbox proxy ask`: asks the user about each denied domain.

use std::collections::HashSet;
use std::time::Duration;

use super::Subject;
use crate::commands::context::Context;
use crate::commands::{ExitStatus, Outcome, gateway};
use crate::output::Report;
use sandbox::Found;
use sandbox_gateway::access_log::{Entry, LogReader};
use sandbox_gateway::policy_engine::HOST_NAME;
use sandbox_protocol::gateway::GatewayCommand;
use sandbox_spec::domain::{DomainName, DomainPattern};
use sandbox_spec::policy::Reason;

/// The poll interval of the log.
const INTERVAL: Duration = Duration::from_millis(250);
/// The maximum number of remembered names. Further names of the guest are not asked about.
const DECIDED_LIMIT: usize = 10_000;

/// The user's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Once,
    Always,
    Deny,
    End,
}

impl Answer {
    /// Parses an answer. Returns `None` if it is invalid.
    fn read(text: &str) -> Option<Self> {
        match text.trim().to_ascii_lowercase().as_str() {
            "o" | "once" => Some(Self::Once),
            "a" | "always" => Some(Self::Always),
            "" | "d" | "deny" | "n" | "no" => Some(Self::Deny),
            "q" | "quit" => Some(Self::End),
            _ => None,
        }
    }
}

pub(super) async fn run(context: &Context, subject: &Subject) -> Outcome {
    let users = subject.users(context)?;
    if users.is_empty() {
        context.running(Some(&subject.name))?;
        return Err(Report::new(
            format!("`{}` runs without `--proxy`", subject.name),
            Some(
                format!(
                    "run `sandbox stop {}`, then `sandbox --proxy`",
                    subject.name
                )
                .into(),
            ),
        ));
    }
    let created = users.iter().filter_map(Found::record);
    let began = created
        .filter_map(|record| jiff::Timestamp::try_from(record.created).ok())
        .min();
    let mut reader = LogReader::new(&subject.log_directory);
    let mut decided = HashSet::new();
    context
        .printer
        .notice("waiting for denied domains (Ctrl-C ends)");
    while !subject.users(context)?.is_empty() {
        for entry in reader.read_new()? {
            let Some(name) =
                deniable(&entry).filter(|_| began.is_none_or(|began| entry.time >= began))
            else {
                continue;
            };
            if decided.len() >= DECIDED_LIMIT || !decided.insert(name.clone()) {
                continue;
            }
            if is_allowed_now(subject, name)? {
                continue;
            }
            if decide(context, subject, &entry, name).await? == Answer::End {
                return Ok(ExitStatus::SUCCESS);
            }
        }
        tokio::time::sleep(INTERVAL).await;
    }
    context
        .printer
        .notice(format_args!("`{}` has ended", subject.name));
    Ok(ExitStatus::SUCCESS)
}

/// Returns the denied name if an allowlist entry would allow it.
fn deniable(entry: &Entry) -> Option<&DomainName> {
    match entry.reason {
        // No allowlist entry opens the host.
        Some(Reason::NotListed) => entry
            .name
            .as_ref()
            .filter(|name| name.as_str() != HOST_NAME),
        _ => None,
    }
}

fn is_allowed_now(subject: &Subject, name: &DomainName) -> Result<bool, Report> {
    let (entries, _) = subject.list().entries()?;
    Ok(entries.iter().any(|entry| entry.pattern.matches(name)))
}

async fn decide(
    context: &Context,
    subject: &Subject,
    entry: &Entry,
    name: &DomainName,
) -> Result<Answer, Report> {
    let pattern = DomainPattern::Exact(name.clone());
    let question = format!(
        "`{name}` was denied (asked by {}): allow it [o]nce, [a]lways, [D]eny it, [q]uit?",
        entry.asked
    );
    let answer = loop {
        let Some(text) = context.printer.prompt(&question)? else {
            return Err(Report::new(
                "could not ask: not a terminal",
                Some("run `sandbox proxy blocked --watch` to follow denials".into()),
            ));
        };
        let Some(text) = text else {
            break Answer::End;
        };
        if let Some(answer) = Answer::read(&text) {
            break answer;
        }
    };
    match answer {
        Answer::Once => {
            for user in subject.users(context)? {
                let pattern = pattern.clone();
                gateway::ask(&user, GatewayCommand::AllowOnce { pattern }).await?;
            }
            context
                .printer
                .notice(format_args!("allowed `{name}` until the sandbox stops"));
        }
        Answer::Always => {
            subject.list().add(&[pattern])?;
            context.printer.notice(format_args!("allowed `{name}`"));
        }
        Answer::Deny | Answer::End => {}
    }
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answer_without_text_denies() {
        for (text, expected) in [
            ("o\n", Some(Answer::Once)),
            ("Always", Some(Answer::Always)),
            ("\n", Some(Answer::Deny)),
            ("no", Some(Answer::Deny)),
            ("q", Some(Answer::End)),
            ("yes", None),
        ] {
            assert_eq!(Answer::read(text), expected, "{text}");
        }
    }
}
