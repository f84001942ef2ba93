//! `sandbox proxy logs`.

use std::collections::VecDeque;
use std::fmt::Write;
use std::net::SocketAddr;

use super::Subject;
use super::follow::{follow, json_line, time};
use crate::commands::context::Context;
use crate::commands::{ExitStatus, Outcome};
use sandbox_gateway::access_log::{Entry, LogReader, Outcome as Verdict};
use sandbox_spec::policy::Transport;

pub(super) async fn run(
    context: &Context,
    subject: &Subject,
    follows: bool,
    lines: usize,
    json: bool,
) -> Outcome {
    let mut reader = LogReader::new(&subject.log_directory);
    let mut last = VecDeque::new();
    for entry in reader.read_new()? {
        if last.len() >= lines {
            last.pop_front();
        }
        if lines > 0 {
            last.push_back(entry);
        }
    }
    let text = |entry: &Entry| match json {
        true => json_line(entry),
        false => Ok(line(entry) + "\n"),
    };
    for entry in &last {
        context.printer.data(text(entry)?.trim_end())?;
    }
    if !follows {
        return Ok(ExitStatus::SUCCESS);
    }
    follow(reader, |entry| context.printer.raw_data(&text(entry)?)).await
}

/// Returns an entry as text: time, verdict, target, traffic, duration and rule.
fn line(entry: &Entry) -> String {
    let mut line = format!("{} {}", time(entry.time), entry.verdict);
    // Writing to a string cannot fail.
    let _ = write!(line, " {}", target(entry));
    match entry.verdict {
        Verdict::Allowed => {
            let _ = write!(
                line,
                ", {} bytes up, {} down in {} s, by {}",
                entry.up, entry.down, entry.seconds, entry.rule
            );
        }
        Verdict::Denied => {
            let _ = write!(line, " asked by {}", entry.asked);
            if let Some(reason) = entry.reason {
                let _ = write!(line, ": {reason}");
            }
            let _ = write!(line, " ({})", entry.rule);
        }
    }
    if entry.suppressed > 0 {
        let _ = write!(line, ", {} more before it", entry.suppressed);
    }
    line
}

fn target(entry: &Entry) -> String {
    let address = entry.address.map(|address| match entry.transport {
        Transport::Icmp => format!("{address} (icmp)"),
        transport => format!("{}/{transport}", SocketAddr::new(address, entry.port)),
    });
    match (&entry.name, address) {
        (Some(name), Some(address)) => format!("{name} {address}"),
        (Some(name), None) => format!("{name} {}/{}", entry.port, entry.transport),
        (None, Some(address)) => address,
        (None, None) => format!("(no name) {}/{}", entry.port, entry.transport),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(json: &str) -> Entry {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn line_contains_target_traffic_and_rule() {
        for (json, expected) in [
            (
                r#"{"time":"2026-01-02T03:04:05Z","verdict":"allowed","rule":"allowlist .a.example","asked":"sni","name":"www.a.example","address":"192.0.2.1","port":443,"transport":"tcp","up":120,"down":4500,"seconds":1.25}"#,
                "2026-01-02 03:04:05 UTC allowed www.a.example 192.0.2.1:443/tcp, 120 bytes up, 4500 down in 1.25 s, by allowlist .a.example",
            ),
            (
                r#"{"time":"2026-01-02T03:04:05Z","verdict":"denied","rule":"proxy","reason":"not-listed","asked":"dns","name":"b.example","port":53,"transport":"udp","suppressed":7}"#,
                "2026-01-02 03:04:05 UTC denied b.example 53/udp asked by DNS: the name is not on the allowlist (proxy), 7 more before it",
            ),
            (
                r#"{"time":"2026-01-02T03:04:05Z","verdict":"denied","rule":"network public","reason":"preset","asked":"address","address":"2001:db8::1","port":0,"transport":"icmp"}"#,
                "2026-01-02 03:04:05 UTC denied 2001:db8::1 (icmp) asked by address: the network preset does not allow it (network public)",
            ),
        ] {
            assert_eq!(line(&entry(json)), expected);
        }
    }
}
