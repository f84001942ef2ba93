//! `guest-agent ready`: tells the host whether the sandbox is ready, then
//! starts the rest of Debian.

use std::fs;
use std::io;
use std::path::Path;
use std::process::{Command, ExitCode, ExitStatus};
use std::thread;
use std::time::Duration;

use crate::events::{self, Event};
use crate::{generators, report, seed, shares};

/// The port sshd listens on.
const SSH_PORT: u16 = 22;

/// All of Debian.
const FULL_SYSTEM: &str = "multi-user.target";

/// Head start of the first command: for so long after readiness the rest of
/// Debian does not compete with it for the processors.
const FIRST_COMMAND: Duration = Duration::from_millis(1500);

/// Why the sandbox is not ready, or not complete.
#[derive(Debug, thiserror::Error)]
enum ReadyError {
    #[error("cannot read `{path}`")]
    Read {
        path: &'static str,
        source: io::Error,
    },
    #[error("cannot mount the share at {}", in_backticks(paths))]
    Shares { paths: Vec<String> },
    #[error("sshd does not listen")]
    Sshd,
    #[error("cannot unmask the generators of units")]
    Generators { source: io::Error },
    #[error("cannot execute `{program}`")]
    Execute {
        program: &'static str,
        source: io::Error,
    },
    #[error("`systemctl {arguments}` failed: {status}")]
    Systemctl {
        arguments: String,
        status: ExitStatus,
    },
}

fn in_backticks(paths: &[String]) -> String {
    let quoted: Vec<_> = paths.iter().map(|path| format!("`{path}`")).collect();
    quoted.join(", ")
}

/// Runs the subcommand.
pub(crate) fn run() -> ExitCode {
    match become_ready() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let reason = report::chain(&error);
            report::say(&reason);
            events::send(&Event::Failed { reason: &reason });
            ExitCode::FAILURE
        }
    }
}

fn become_ready() -> Result<(), ReadyError> {
    check_shares()?;
    check_sshd()?;
    let cloud_init = Path::new(shares::CREDENTIALS).join("sandbox.cloud-init");
    let cloud_init = fs::read_to_string(cloud_init).ok();
    if seed::wants_cloud_init(cloud_init.as_deref()) {
        events::send(&Event::Waiting { what: "cloud-init" });
        start_everything()?;
        let state = run_cloud_init()?;
        events::send(&Event::Ready {
            cloud_init: Some(&state),
        });
    } else {
        events::send(&Event::Ready { cloud_init: None });
        thread::sleep(FIRST_COMMAND);
        start_everything()?;
    }
    events::send(&Event::Settled);
    Ok(())
}

fn check_shares() -> Result<(), ReadyError> {
    let read = |path| move |source| ReadyError::Read { path, source };
    let wanted =
        shares::wanted(Path::new(shares::CREDENTIALS)).map_err(read(shares::CREDENTIALS))?;
    let mountinfo =
        fs::read_to_string("/proc/self/mountinfo").map_err(read("/proc/self/mountinfo"))?;
    let missing = shares::missing(&wanted, &mountinfo);
    if missing.is_empty() {
        return Ok(());
    }
    Err(ReadyError::Shares {
        paths: missing.into_iter().map(str::to_owned).collect(),
    })
}

fn check_sshd() -> Result<(), ReadyError> {
    for path in ["/proc/net/tcp", "/proc/net/tcp6"] {
        match fs::read_to_string(path) {
            Ok(table) if listens(&table, SSH_PORT) => return Ok(()),
            // Without IPv6 there is no second table.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(ReadyError::Read { path, source }),
            Ok(_) => {}
        }
    }
    Err(ReadyError::Sshd)
}

/// Whether a socket listens on the port, by the text of `/proc/net/tcp`
/// (proc_pid_net(5)): the second field is `ADDRESS:PORT` in hexadecimal, the
/// fourth the state, 0A for listening.
fn listens(table: &str, port: u16) -> bool {
    let port = format!(":{port:04X}");
    table.lines().any(|line| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        fields.next().is_some_and(|local| local.ends_with(&port)) && fields.nth(1) == Some("0A")
    })
}

fn start_everything() -> Result<(), ReadyError> {
    generators::unmask().map_err(|source| ReadyError::Generators { source })?;
    systemctl(&["daemon-reload"])?;
    systemctl(&["start", FULL_SYSTEM])
}

fn systemctl(arguments: &[&str]) -> Result<(), ReadyError> {
    let status = Command::new("/usr/bin/systemctl")
        .args(arguments)
        .status()
        .map_err(|source| ReadyError::Execute {
            program: "systemctl",
            source,
        })?;
    if status.success() {
        return Ok(());
    }
    Err(ReadyError::Systemctl {
        arguments: arguments.join(" "),
        status,
    })
}

/// Waits for cloud-init's end and returns how it ended (`done`, `error`, …).
fn run_cloud_init() -> Result<String, ReadyError> {
    systemctl(&["start", "cloud-init.target"])?;
    let output = Command::new("/usr/bin/cloud-init")
        .args(["status", "--wait"])
        .output()
        .map_err(|source| ReadyError::Execute {
            program: "cloud-init",
            source,
        })?;
    Ok(cloud_init_state(&String::from_utf8_lossy(&output.stdout)))
}

/// The state in the output of `cloud-init status --wait`: dots of progress,
/// then `status: STATE`.
fn cloud_init_state(output: &str) -> String {
    output
        .lines()
        .find_map(|line| line.split_once("status: "))
        .map_or("unknown", |(_, state)| state.trim())
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listening_sockets() {
        let table = "\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid
   0: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0
   1: 0F02000A:0050 0202000A:D430 01 00000000:00000000 02:000A78F9 00000000     0
";
        assert!(listens(table, 22));
        assert!(!listens(table, 80));
        assert!(!listens(table, 0xd430));
        assert!(!listens("", 22));
    }

    #[test]
    fn states_of_cloud_init() {
        assert_eq!(cloud_init_state("\n....status: done\n"), "done");
        assert_eq!(cloud_init_state("status: error\nx"), "error");
        assert_eq!(cloud_init_state(""), "unknown");
    }
}
