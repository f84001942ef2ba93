//! `sandbox df`.

use sandbox::StorageKind;

use super::context::Context;
use super::format::megabytes;
use super::{ExitStatus, Outcome};
use crate::cli::JsonArguments;
use crate::output::Table;

pub(super) fn run(context: &Context, arguments: &JsonArguments) -> Outcome {
    let usage = context.host.disk_usage()?;
    if arguments.json {
        context.printer.json(&usage)?;
        return Ok(ExitStatus::SUCCESS);
    }
    let mut table = Table::new(&["kind", "count", "size", "reclaimable"]);
    for usage in usage {
        let kind = match usage.kind {
            StorageKind::Images => "images",
            StorageKind::Templates => "templates",
            StorageKind::Sandboxes => "sandboxes",
            StorageKind::Logs => "logs",
            _ => "other",
        };
        table.row([
            kind.into(),
            usage.count.to_string(),
            megabytes(usage.allocated_bytes),
            megabytes(usage.reclaimable_bytes),
        ]);
    }
    context.printer.data(table)?;
    Ok(ExitStatus::SUCCESS)
}
