//! `sandbox proxy info`.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::edit::warn_of;
use super::{Subject, uses_allowlist};
use crate::commands::context::Context;
use crate::commands::{ExitStatus, Outcome};
use sandbox_gateway::access_log::{EARLIER_FILE, FILE, LogReader, Outcome as Verdict};
use sandbox_gateway::allowlist::OPEN_TO_UPLOADS;
use sandbox_spec::SandboxName;

/// The output of `info --json`.
#[derive(Serialize)]
struct Info<'a> {
    name: &'a SandboxName,
    running: bool,
    /// Whether the running sandbox uses the allowlist.
    proxy: bool,
    allowlist: &'a Path,
    /// Whether the file exists. Without it, the default allowlist applies.
    allowlist_exists: bool,
    entries: usize,
    /// Entries whose comment marks a site that accepts uploads from anyone.
    open_to_uploads: usize,
    /// Invalid lines.
    faults: usize,
    access_log: PathBuf,
    access_log_bytes: u64,
    /// Allowed flows in the log.
    allowed: usize,
    denied: usize,
}

pub(super) fn run(context: &Context, subject: &Subject, json: bool) -> Outcome {
    let found = subject.running(context)?;
    let list = subject.list();
    let (entries, faults) = list.entries()?;
    let logged = LogReader::new(&subject.log_directory).read_new()?;
    let allowed = logged
        .iter()
        .filter(|entry| entry.verdict == Verdict::Allowed)
        .count();
    let marked = entries.iter().filter(|entry| {
        let comment = entry.comment.as_deref();
        comment.is_some_and(|comment| comment.starts_with(OPEN_TO_UPLOADS))
    });
    let size = |name: &str| {
        std::fs::metadata(subject.log_directory.join(name)).map_or(0, |found| found.len())
    };
    let info = Info {
        name: &subject.name,
        running: found.is_some(),
        proxy: found.as_ref().is_some_and(uses_allowlist),
        allowlist: list.path(),
        allowlist_exists: list.path().exists(),
        entries: entries.len(),
        open_to_uploads: marked.count(),
        faults: faults.len(),
        access_log: subject.log_directory.join(FILE),
        access_log_bytes: size(FILE) + size(EARLIER_FILE),
        allowed,
        denied: logged.len() - allowed,
    };
    if json {
        context.printer.json(&info)?;
        return Ok(ExitStatus::SUCCESS);
    }
    warn_of(context, &faults);
    for (key, value) in rows(&info) {
        context.printer.data(format_args!("{key:<10} {value}"))?;
    }
    Ok(ExitStatus::SUCCESS)
}

fn rows(info: &Info<'_>) -> [(&'static str, String); 6] {
    let state = match (info.running, info.proxy) {
        (false, _) => "stopped",
        (true, true) => "running, allowlisted domains only",
        (true, false) => "running without `--proxy`",
    };
    let kind = if info.allowlist_exists {
        ""
    } else {
        " (the default)"
    };
    [
        ("name", info.name.to_string()),
        ("state", state.into()),
        ("list", info.allowlist.display().to_string()),
        (
            "entries",
            format!(
                "{}{kind}, {} open to uploads from anyone",
                info.entries, info.open_to_uploads
            ),
        ),
        ("log", info.access_log.display().to_string()),
        (
            "logged",
            format!(
                "{} allowed, {} denied, {} bytes",
                info.allowed, info.denied, info.access_log_bytes
            ),
        ),
    ]
}
