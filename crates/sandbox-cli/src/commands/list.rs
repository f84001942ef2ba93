//! `sandbox list`.

use super::context::Context;
use super::{ExitStatus, Outcome};
use crate::cli::JsonArguments;
use crate::output::Table;
use sandbox::{Found, Record};

pub(super) fn run(context: &Context, arguments: &JsonArguments) -> Outcome {
    let found = context.host.sandboxes()?;
    if arguments.json {
        let records: Vec<&Record> = found.iter().filter_map(Found::record).collect();
        context.printer.json(&records)?;
        return Ok(ExitStatus::SUCCESS);
    }
    let mut table = Table::new(&[
        "name",
        "state",
        "image",
        "cpus",
        "memory",
        "accel",
        "ssh",
        "workspace",
    ]);
    for found in found {
        let record = match found.record {
            Ok(Some(record)) => record,
            Ok(None) => continue,
            Err(error) => {
                context.printer.warning(error);
                table.row([found.name.to_string(), "unreadable".into()]);
                continue;
            }
        };
        table.row([
            record.name.to_string(),
            state(&record).to_owned(),
            record.image.to_string(),
            record.cpus.to_string(),
            record.memory.to_string(),
            record.accelerator.to_string(),
            record
                .ssh_port
                .map(|port| port.to_string())
                .unwrap_or_default(),
            record.workspace.display().to_string(),
        ]);
    }
    context.printer.data(table)?;
    Ok(ExitStatus::SUCCESS)
}

/// Returns the state of a sandbox in one word.
pub(super) fn state(record: &Record) -> &'static str {
    if record.ready { "running" } else { "starting" }
}
