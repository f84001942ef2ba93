//! `sandbox info`.

use serde::Serialize;

use super::context::Context;
use super::list::state;
use super::{ExitStatus, Outcome, target};
use crate::cli::InfoArguments;
use crate::output::Report;
use crate::sandbox::Record;
use crate::ssh::openssh_command;

/// What `info --json` prints: the record, and how to reach the sandbox.
#[derive(Serialize)]
struct Info<'a> {
    #[serde(flatten)]
    record: &'a Record,
    state: &'a str,
    state_directory: &'a str,
    ssh_command: Option<&'a str>,
    console_command: &'a str,
}

pub(super) fn run(context: &Context, arguments: &InfoArguments) -> Outcome {
    let found = target::running(context, arguments.name.sandbox.as_ref())?;
    let record = found.record?.ok_or_else(|| {
        Report::new(
            format!("the sandbox `{}` is just being made or removed", found.name),
            Some("try again in a moment".into()),
        )
    })?;
    let ssh_command = match record.ssh_port {
        Some(port) => {
            let endpoint = found.layout.endpoint(&found.name, port, "dev")?;
            let words: Vec<String> = openssh_command(&endpoint)
                .iter()
                .map(|word| word.to_string_lossy().into_owned())
                .collect();
            Some(shell_words::join(words))
        }
        None => None,
    };
    let console_command = format!(
        "socat STDIO,raw,echo=0,escape=0x1d UNIX-CONNECT:{}",
        shell_words::quote(&found.layout.console_socket().to_string_lossy())
    );
    let directory = found.layout.directory().display().to_string();
    if arguments.json.json {
        context.printer.json(&Info {
            record: &record,
            state: state(&record),
            state_directory: &directory,
            ssh_command: ssh_command.as_deref(),
            console_command: &console_command,
        })?;
        return Ok(ExitStatus::SUCCESS);
    }
    let created = record.created.strftime("%Y-%m-%d %H:%M:%S UTC").to_string();
    let shares = record
        .shares
        .iter()
        .map(|share| {
            let mode = if share.read_only { " (read-only)" } else { "" };
            format!("{} at {}{mode}", share.host.display(), share.guest)
        })
        .collect::<Vec<_>>()
        .join(", ");
    let rows = [
        ("name", record.name.to_string()),
        ("state", state(&record).to_owned()),
        ("workspace", record.workspace.display().to_string()),
        ("shares", shares),
        ("image", format!("{} {}", record.image, record.image_digest)),
        (
            "machine",
            format!(
                "{} processors, {} memory, {} disk, {}",
                record.cpus, record.memory, record.disk, record.accelerator
            ),
        ),
        ("agent", agent(&record)),
        ("started", created),
        ("state in", directory),
        (
            "alias",
            record
                .alias_file
                .as_ref()
                .map(|_| format!("ssh {}", record.name))
                .unwrap_or_default(),
        ),
        ("ssh", ssh_command.unwrap_or_default()),
        ("console", console_command),
    ];
    for (key, value) in rows {
        if !value.is_empty() {
            context.printer.data(format_args!("{key:<10} {value}"))?;
        }
    }
    Ok(ExitStatus::SUCCESS)
}

/// What carries the sessions of `exec`, `run` and shells.
fn agent(record: &Record) -> String {
    match record.agent {
        Some(version) => format!("protocol {version}"),
        None if record.ready => "does not answer; commands use SSH".into(),
        None => String::new(),
    }
}
