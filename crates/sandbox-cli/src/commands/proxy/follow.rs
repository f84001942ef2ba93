//! Following the access log until Ctrl-C.

use std::io;
use std::time::Duration;

use crate::commands::{ExitStatus, Outcome};
use sandbox_gateway::access_log::{Entry, LogReader};
use sandbox_host::notices::{Notice, Notices};

/// The poll interval of the log.
const INTERVAL: Duration = Duration::from_millis(250);

/// Shows new entries until a termination signal arrives or the output is closed.
pub(super) async fn follow(
    mut reader: LogReader,
    mut show: impl FnMut(&Entry) -> io::Result<()>,
) -> Outcome {
    let mut notices = Notices::of_process()?;
    let mut ticks = tokio::time::interval(INTERVAL);
    loop {
        tokio::select! {
            _ = ticks.tick() => {
                for entry in reader.read_new()? {
                    match show(&entry) {
                        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                            return Ok(ExitStatus::SUCCESS);
                        }
                        shown => shown?,
                    }
                }
            }
            notice = notices.next() => {
                if matches!(notice, Notice::Termination(_)) {
                    return Ok(ExitStatus::INTERRUPTED);
                }
            }
        }
    }
}

/// Returns a value as one line of JSON.
pub(super) fn json_line(value: &impl serde::Serialize) -> io::Result<String> {
    Ok(serde_json::to_string(value)? + "\n")
}

/// Returns a time as text, in UTC.
pub(super) fn time(time: jiff::Timestamp) -> String {
    time.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}
