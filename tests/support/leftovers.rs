//! What a test leaves behind: processes, and files of sandboxes that are gone.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant};
use std::{fs, thread};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::TestEnvironment;

/// A process that is asked to end has this long: more than any needs.
const GRACE: Duration = Duration::from_secs(10);

/// A running process.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) pid: i32,
    /// Its command line, arguments separated by spaces.
    pub(crate) command_line: String,
}

/// Every process whose command line or environment holds `path`.
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
        // Gone in between, another user's, or a zombie: empty.
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

/// Names what is left of the environment's sandboxes, and kills what still
/// runs, so that no other test suffers from it.
pub(super) fn collect(environment: &TestEnvironment) -> Vec<String> {
    let mut left = Vec::new();
    // A supervisor tells that its sandbox has ended, and exits right after.
    let deadline = Instant::now() + GRACE;
    while !environment.processes().is_empty() && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(10));
    }
    for process in environment.processes() {
        left.push(format!("process {}: {}", process.pid, process.command_line));
        // It may have ended by itself.
        let _ = kill(Pid::from_raw(process.pid), Signal::SIGKILL);
    }
    for directory in [
        environment.state().join("kvm-vms"),
        environment.home().join(".ssh/config.d"),
        environment.runtime(),
        environment.temporary(),
    ] {
        // Most tests make none of these directories.
        let entries = fs::read_dir(directory).into_iter().flatten().flatten();
        left.extend(entries.map(|entry| format!("file {}", entry.path().display())));
    }
    left
}
