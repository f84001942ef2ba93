//! Processes named so that a reused pid is never mistaken for the one that
//! was meant: by pid, start time, and a path on its command line.

use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::{fs, io};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

/// One process of this boot of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessIdentity {
    /// Process id.
    pub pid: i32,
    /// Start time in clock ticks since boot, field 22 of `/proc/PID/stat`
    /// (proc_pid_stat(5)).
    pub start_time: u64,
}

impl ProcessIdentity {
    /// Identifies a process that runs now.
    pub fn of(pid: i32) -> io::Result<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let start_time = start_time(&stat).ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidData, "unreadable process status")
        })?;
        Ok(Self { pid, start_time })
    }

    /// Kills the process with SIGKILL if it is still the one that was meant
    /// and its command line holds `marker`. True if a signal was sent.
    pub fn kill_if_marked(&self, marker: &Path) -> bool {
        self.open_if_marked(marker)
            .is_some_and(|pidfd| pidfd_send_signal(&pidfd, Signal::KILL).is_ok())
    }

    /// True while the process runs and its command line holds `marker`; every one holds an empty
    /// marker.
    pub fn is_alive(&self, marker: &Path) -> bool {
        self.open_if_marked(marker).is_some()
    }

    /// The pidfd is opened first: what is read afterwards is then either about
    /// that very process, or about none.
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

/// Field 22 of a `/proc/PID/stat` line. The command name (field 2) is in
/// parentheses and may itself hold spaces and parentheses.
fn start_time(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_ascii_whitespace().nth(19)?.parse().ok()
}

/// Lets this thread, and every process and thread that comes from it, run only
/// when nobody else wants the processor or the disk (sched(7), `SCHED_IDLE`;
/// ioprio_set(2)). What the kernel refuses is left as it is.
pub fn step_back() {
    use nix::libc;
    /// `IOPRIO_WHO_PROCESS` (linux/ioprio.h).
    const THIS_THREAD: libc::c_long = 1;
    /// `IOPRIO_CLASS_IDLE`, shifted to its place.
    const IDLE: libc::c_long = 3 << 13;
    let parameter = libc::sched_param { sched_priority: 0 };
    // SAFETY: both calls read their arguments only, and `parameter` lives
    // until they have returned.
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
    fn start_time_survives_a_hostile_command_name() {
        let stat = "12 (a) R 1) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 20";
        assert_eq!(start_time(stat), Some(4711));
        assert_eq!(start_time("12 (x) S 1"), None);
        assert_eq!(start_time(""), None);
    }

    #[test]
    fn a_reused_pid_is_not_killed() {
        let mut child = std::process::Command::new("sh")
            .args(["-c", "echo started; read -r line"])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        // Right after `exec`, the command line still reads as empty.
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
