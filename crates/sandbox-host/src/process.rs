//! Processes by pid, start time and a path on the command line, so that a reused pid is detected.
//! Also the priority of this process.

use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::{fs, io};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

/// A process of the current boot of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessIdentity {
    /// The process id.
    pub pid: i32,
    /// The start time in clock ticks since boot, field 22 of `/proc/PID/stat` (proc_pid_stat(5)).
    pub start_time: u64,
}

impl ProcessIdentity {
    /// Returns the identity of a running process.
    ///
    /// # Errors
    /// Fails if the process does not exist.
    pub fn of(pid: i32) -> io::Result<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let start_time = start_time(&stat).ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidData, "unreadable process status")
        })?;
        Ok(Self { pid, start_time })
    }

    /// Kills the process with SIGKILL if it still has this identity and its command line contains
    /// `marker`. Returns whether a signal was sent.
    pub fn kill_if_marked(&self, marker: &Path) -> bool {
        self.open_if_marked(marker)
            .is_some_and(|pidfd| pidfd_send_signal(&pidfd, Signal::KILL).is_ok())
    }

    /// Returns whether the process runs and its command line contains `marker`.
    pub fn is_alive(&self, marker: &Path) -> bool {
        self.open_if_marked(marker).is_some()
    }

    /// Opens the pidfd before it reads from `/proc`, so that both belong to one process.
    fn open_if_marked(&self, marker: &Path) -> Option<OwnedFd> {
        let pidfd = pidfd_open(Pid::from_raw(self.pid)?, PidfdFlags::empty()).ok()?;
        if Self::of(self.pid).ok()? != *self {
            return None;
        }
        let command_line = fs::read(format!("/proc/{}/cmdline", self.pid)).ok()?;
        let marker = marker.as_os_str().as_bytes();
        let is_marked = marker.is_empty()
            || command_line
                .windows(marker.len())
                .any(|window| window == marker);
        is_marked.then_some(pidfd)
    }
}

/// Returns field 22 of a `/proc/PID/stat` line. The command name (field 2) is in parentheses and
/// can contain spaces and parentheses.
fn start_time(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_ascii_whitespace().nth(19)?.parse().ok()
}

/// Gives this thread the idle classes of processor and disk (`SCHED_IDLE` in sched(7);
/// ioprio_set(2)). Its later threads and child processes inherit them.
///
/// Errors are ignored: the thread then keeps its priority.
pub fn lower_priority_to_idle() {
    use nix::libc;
    /// `IOPRIO_WHO_PROCESS` (linux/ioprio.h).
    const THIS_THREAD: libc::c_long = 1;
    /// `IOPRIO_CLASS_IDLE`, shifted to its place.
    const IDLE: libc::c_long = 3 << 13;
    let parameter = libc::sched_param { sched_priority: 0 };
    // SAFETY: both calls only read their arguments, and `parameter` lives until they return.
    unsafe {
        libc::sched_setscheduler(0, libc::SCHED_IDLE, &raw const parameter);
        libc::syscall(libc::SYS_ioprio_set, THIS_THREAD, 0_i64, IDLE);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn start_time_is_parsed_after_a_hostile_command_name() {
        let stat = "12 (a) R 1) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 20";
        assert_eq!(start_time(stat), Some(4711));
        assert_eq!(start_time("12 (x) S 1"), None);
        assert_eq!(start_time(""), None);
    }

    #[test]
    fn process_with_another_start_time_or_marker_is_not_killed() {
        let mut child = std::process::Command::new("sh")
            .args(["-c", "echo started; read -r line"])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        // Right after `exec`, the command line is still empty.
        let mut greeting = [0; 8];
        child
            .stdout
            .take()
            .unwrap()
            .read_exact(&mut greeting)
            .unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let real = ProcessIdentity::of(pid).unwrap();
        let earlier = ProcessIdentity {
            start_time: real.start_time - 1,
            ..real
        };
        assert!(!earlier.kill_if_marked(Path::new("read -r line")));
        assert!(!real.kill_if_marked(Path::new("/not/on/its/command/line")));
        assert!(child.try_wait().unwrap().is_none());
        assert!(real.kill_if_marked(Path::new("read -r line")));
        child.wait().unwrap();
    }
}
