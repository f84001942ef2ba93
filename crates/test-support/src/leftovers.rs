//! Finds the processes and sandbox files that a test leaves behind.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant};
use std::{fs, thread};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::TestEnvironment;

/// How long a process may take to end after it was asked to. None needs as much.
const GRACE: Duration = Duration::from_secs(10);

/// A running process.
#[derive(Debug)]
pub struct Process {
    /// Its process ID.
    pub pid: i32,
    /// Its command line, arguments separated by spaces.
    pub command_line: String,
}

/// Returns every process whose command line or environment contains `path`.
pub(crate) fn processes_mentioning(path: &Path) -> Vec<Process> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        // Empty for a process that has ended, is a zombie, or belongs to another user.
        let command_line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let environment = fs::read(entry.path().join("environ")).unwrap_or_default();
        if mentions(&command_line, path) || mentions(&environment, path) {
            found.push(Process {
                pid,
                command_line: String::from_utf8_lossy(&command_line).replace('\0', " "),
            });
        }
    }
    found
}

fn mentions(text: &[u8], path: &Path) -> bool {
    let path = path.as_os_str().as_bytes();
    text.windows(path.len()).any(|window| window == path)
}

/// Returns the leftovers of the environment's sandboxes, and kills processes that
/// still run, so that they do not disturb other tests.
pub(crate) fn collect(environment: &TestEnvironment) -> Vec<String> {
    let mut left = Vec::new();
    // A supervisor exits shortly after it has reported the end of its sandbox.
    let deadline = Instant::now() + GRACE;
    while !environment.processes().is_empty() && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(10));
    }
    for process in environment.processes() {
        left.push(format!("process {}: {}", process.pid, process.command_line));
        // It may have ended on its own.
        let _ = kill(Pid::from_raw(process.pid), Signal::SIGKILL);
    }
    for directory in [
        environment.state().join("kvm-vms"),
        environment.home().join(".ssh/config.d"),
        environment.runtime(),
        environment.temporary(),
    ] {
        // Most tests create none of these directories.
        let entries = fs::read_dir(directory).into_iter().flatten().flatten();
        left.extend(entries.map(|entry| format!("file {}", entry.path().display())));
    }
    left
}
