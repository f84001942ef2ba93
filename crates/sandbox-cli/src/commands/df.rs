//! `sandbox df`.

use sandbox::StorageKind;

use super::context::Context;
use super::words::megabytes;
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

fn rows(context: &Context) -> Result<[Row; 4], Report> {
    let survey = Survey::of(context)?;
    let removals = survey.removals(false);
    let reclaimable = |kind| {
        let of_kind = removals.iter().filter(|removal| removal.kind == kind);
        of_kind.map(|removal| removal.allocated_bytes).sum()
    };
    let row = |kind, count, allocated_bytes| Row {
        kind,
        count,
        allocated_bytes,
        reclaimable_bytes: reclaimable(kind),
    };
    let templates = &survey.templates;
    let building = context.directories.building();
    let template_bytes: u64 = templates
        .entries
        .iter()
        .map(|entry| entry.allocated_bytes)
        .chain(
            templates
                .orphans
                .iter()
                .map(|orphan| orphan.allocated_bytes),
        )
        .chain([allocated_bytes(&building)])
        .sum();
    let layouts: Vec<&StateLayout> = survey
        .running
        .iter()
        .map(|found| &found.layout)
        .chain(&survey.dead)
        .collect();
    let all_bytes: u64 = layouts
        .iter()
        .map(|layout| allocated_bytes(layout.directory()))
        .sum();
    let own_logs: Vec<PathBuf> = layouts.iter().flat_map(|layout| logs(layout)).collect();
    let own_log_bytes: u64 = own_logs.iter().map(|log| allocated_bytes(log)).sum();
    let proxies = context.directories.proxies();
    let proxy_logs: Vec<PathBuf> = names_in(&proxies)?
        .iter()
        .flat_map(|name| access_logs(&proxies.join(name)))
        .collect();
    let proxy_log_bytes: u64 = proxy_logs.iter().map(|log| allocated_bytes(log)).sum();
    let builds = context.directories.build_logs();
    let build_logs = names_in(&builds)?;
    let build_log_bytes: u64 = build_logs
        .iter()
        .map(|name| allocated_bytes(&builds.join(name)))
        .sum();
    Ok([
        row(
            Kind::Images,
            survey.image_count,
            survey.images.allocated_bytes,
        ),
        row(Kind::Templates, templates.entries.len(), template_bytes),
        row(
            Kind::Sandboxes,
            survey.running.len(),
            all_bytes.saturating_sub(own_log_bytes),
        ),
        row(
            Kind::Logs,
            own_logs.len() + proxy_logs.len() + build_logs.len(),
            own_log_bytes + proxy_log_bytes + build_log_bytes,
        ),
    ])
}

/// The logs that a sandbox has.
fn logs(layout: &StateLayout) -> Vec<PathBuf> {
    let mut logs = vec![
        layout.console_log(),
        layout.console_log_rotated(),
        layout.supervisor_log(),
        layout.qemu_log(),
    ];
    logs.retain(|log| log.exists());
    logs.extend(access_logs(layout.directory()));
    logs
}

/// The logs of the network in a directory.
fn access_logs(directory: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    [access_log::FILE, access_log::EARLIER_FILE]
        .map(|name| directory.join(name))
        .into_iter()
        .filter(|log| log.exists())
}
