//! `sandbox info`.

use std::fmt;

use serde::Serialize;

use super::context::Context;
use super::list::state;
use super::{ExitStatus, Outcome};
use crate::cli::InfoArguments;
use crate::output::Report;
use sandbox::{Record, StateLayout};
use sandbox_protocol::NetworkSummary;
use sandbox_spec::SandboxName;

/// The output of `info --json`: the record and the access commands.
#[derive(Serialize)]
struct Info<'a> {
    #[serde(flatten)]
    record: &'a Record,
    state: &'a str,
    state_directory: &'a str,
    ssh_command: Option<&'a str>,
    console_command: &'a str,
    /// The state that the guest reports, if its agent answers.
    guest: Option<Guest>,
}

/// The state that the guest reports. Memory and disk are in bytes.
#[derive(Serialize)]
struct Guest {
    kernel: String,
    uptime_s: u64,
    load: [f64; 3],
    memory_total: u64,
    memory_available: u64,
    disk_total: u64,
    disk_available: u64,
    addresses: Vec<String>,
}

pub(super) async fn run(
    context: &Context,
    name: Option<&SandboxName>,
    arguments: &InfoArguments,
) -> Outcome {
    let found = context.running(arguments.name.given().or(name))?;
    let record = found.record?.ok_or_else(|| {
        Report::new(
            format!("sandbox `{}` is being created or removed", found.name),
            Some("try again in a moment".into()),
        )
    })?;
    let ssh_command = match record.ssh_port {
        Some(port) => {
            let endpoint = found
                .layout
                .endpoint(&found.name, port, "dev")
                .map_err(sandbox::Error::from)?;
            let words: Vec<String> = endpoint
                .openssh_command()
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
    let guest = guest(&found.layout, &record).await;
    let directory = found.layout.directory().display().to_string();
    if arguments.json.json {
        context.printer.json(&Info {
            record: &record,
            state: state(&record),
            state_directory: &directory,
            ssh_command: ssh_command.as_deref(),
            console_command: &console_command,
            guest,
        })?;
        return Ok(ExitStatus::SUCCESS);
    }
    let created = jiff::Timestamp::try_from(record.created)
        .map(|time| time.strftime("%Y-%m-%d %H:%M:%S UTC").to_string())
        .unwrap_or_default();
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
                "{} processors, {} memory, {} disk, {}{}",
                record.cpus,
                record.memory,
                record.disk,
                record.accelerator,
                super::format::nested_virtualization(record.nested_virtualization)
            ),
        ),
        ("network", network(&record.network)),
        ("agent", agent(&record)),
        (
            "guest",
            guest.map(|guest| guest.to_string()).unwrap_or_default(),
        ),
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

/// Asks the guest for its state. Returns `None` if the guest does not answer.
async fn guest(layout: &StateLayout, record: &Record) -> Option<Guest> {
    if !record.ready || record.agent != Some(sandbox_protocol::agent::VERSION) {
        return None;
    }
    let status = match layout.guest_status().await {
        Ok(status) => status,
        Err(error) => {
            tracing::debug!(%error, "could not read the state of the guest");
            return None;
        }
    };
    Some(Guest {
        kernel: status.kernel,
        uptime_s: status.uptime_s,
        load: status
            .load_percent
            .map(|percent| f64::from(percent) / 100.0),
        memory_total: status.memory_total,
        memory_available: status.memory_available,
        disk_total: status.disk_total,
        disk_available: status.disk_available,
        addresses: status.addresses,
    })
}

impl fmt::Display for Guest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let megabytes = |bytes: u64| bytes / 1_000_000;
        let [one, five, fifteen] = self.load;
        write!(
            formatter,
            "Linux {}, up {} s, load {one:.2} {five:.2} {fifteen:.2}, {} of {} MB memory and {} of {} MB disk free, {}",
            self.kernel,
            self.uptime_s,
            megabytes(self.memory_available),
            megabytes(self.memory_total),
            megabytes(self.disk_available),
            megabytes(self.disk_total),
            self.addresses.join(" ")
        )
    }
}

/// Returns the preset, and the number or names of the other network settings.
fn network(network: &NetworkSummary) -> String {
    let mut parts = vec![network.policy.preset.to_string()];
    match network.policy.rules.len() {
        0 => {}
        1 => parts.push("1 rule".into()),
        count => parts.push(format!("{count} rules")),
    }
    if network.proxy {
        parts.push("allowlisted domains only".into());
    }
    parts.extend(network.published.iter().map(|port| format!("port {port}")));
    parts.extend(
        network
            .secrets
            .iter()
            .map(|secret| format!("secret {}", secret.name)),
    );
    parts.join(", ")
}

/// Returns the transport of the sessions of `exec`, `run` and shells.
fn agent(record: &Record) -> String {
    match record.agent {
        Some(version) => format!("protocol {version}"),
        None if record.ready => "does not answer; commands use SSH".into(),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn network_with_all_settings_is_one_line() {
        assert_eq!(network(&NetworkSummary::default()), "public");
        let summary: NetworkSummary = serde_json::from_str(
            r#"{"preset":"private","rules":["deny@metadata"],"proxy":true,"published":["8080:80"],
            "dns":null,"max_connections":64,"bandwidth":null,
            "secrets":[{"name":"TOKEN","hosts":["a.example"]}]}"#,
        )
        .unwrap();
        assert_eq!(
            network(&summary),
            "private, 1 rule, allowlisted domains only, port 127.0.0.1:8080:80, secret TOKEN"
        );
    }
}
