//! `sandbox proxy blocked`.

use super::Subject;
use super::follow::{follow, json_line, time};
use crate::commands::context::Context;
use crate::commands::{ExitStatus, Outcome};
use crate::output::Table;
use sandbox_gateway::access_log::{Blocked, BlockedAttempts, LogReader};

pub(super) async fn run(context: &Context, subject: &Subject, watch: bool, json: bool) -> Outcome {
    let mut reader = LogReader::new(&subject.log_directory);
    let mut attempts = BlockedAttempts::default();
    for entry in reader.read_new()? {
        attempts.add(&entry);
    }
    let known = attempts.newest_first();
    match (json, watch) {
        (true, false) => context.printer.json(&known)?,
        (true, true) => {
            for blocked in known.iter().rev() {
                context.printer.data(json_line(blocked)?.trim_end())?;
            }
        }
        (false, _) if known.is_empty() => context.printer.notice("nothing was denied"),
        (false, _) => context.printer.data(table(&known))?,
    }
    if !watch {
        return Ok(ExitStatus::SUCCESS);
    }
    follow(reader, |entry| match attempts.add(entry) {
        Some(blocked) if json => context.printer.raw_data(&json_line(blocked)?),
        Some(blocked) => context
            .printer
            .raw_data(&format!("{}\n", cells(blocked).join("  "))),
        None => Ok(()),
    })
    .await
}

fn table(known: &[&Blocked]) -> Table {
    let mut table = Table::new(&["target", "attempts", "newest", "asked by", "reason"]);
    for blocked in known {
        table.row(cells(blocked));
    }
    table
}

fn cells(blocked: &Blocked) -> [String; 5] {
    let asked: Vec<String> = blocked.asked.iter().map(ToString::to_string).collect();
    [
        blocked.target.to_string(),
        blocked.attempts.to_string(),
        time(blocked.newest),
        asked.join(", "),
        blocked
            .reason
            .map(|reason| reason.to_string())
            .unwrap_or_default(),
    ]
}
