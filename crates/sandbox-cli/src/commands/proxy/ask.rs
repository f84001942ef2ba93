//! `sandbox proxy ask`: the person decides about each denied domain.

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

/// How often the log is looked at.
const INTERVAL: Duration = Duration::from_millis(250);
/// The most names that are remembered as decided; a guest that asks for more has been answered.
const MOST_DECIDED: usize = 10_000;

/// What the person says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Once,
    Always,
    Deny,
    End,
}

impl Answer {
    /// Reads an answer; none where it is not understood.
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
            format!(
                "`{}` runs without `--proxy`: there is nothing to ask",
                subject.name
            ),
            Some("start it with `sandbox --proxy`".into()),
        ));
    }
    let created = users.iter().filter_map(Found::record);
    let began = created.map(|record| record.created).min();
    let mut reader = LogReader::new(&subject.log_directory);
    let mut decided = HashSet::new();
    context
        .printer
        .notice("waiting for domains that are denied; Ctrl-C ends this");
    while !subject.users(context)?.is_empty() {
        for entry in reader.read_new()? {
            let Some(name) =
                deniable(&entry).filter(|_| began.is_none_or(|began| entry.time >= began))
            else {
                continue;
            };
            if decided.len() >= MOST_DECIDED || !decided.insert(name.clone()) {
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

/// The name of an attempt that the list would allow, were it on it.
fn deniable(entry: &Entry) -> Option<&DomainName> {
    match entry.reason {
        // No list opens the host.
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
                "there is no terminal to ask on",
                Some("`sandbox proxy blocked --watch` shows what is denied".into()),
            ));
        };
        // The end of the input is the end of the asking.
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
    fn silence_denies() {
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
