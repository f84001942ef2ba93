//! Gives a new process its own session, before it executes a program or a
//! login shell.

use rustix::fs::{CWD, Mode, OFlags};
use rustix::process::{Resource, Rlimit};

/// The last standard signal (signal(7)). The numbers above are real-time
/// signals, and libc reserves the first of them.
const LAST_STANDARD_SIGNAL: libc::c_int = 31;

/// The soft limit on open descriptors. A program can raise it to the hard limit
/// (systemd.exec(5), "Process Properties").
const DESCRIPTOR_LIMIT: u64 = 1024;

/// Begins a session and resets everything that systemd set for the agent alone.
///
/// The process keeps the agent's signal mask, which blocks no signal. Makes system calls only, so
/// it is safe between fork and exec.
pub(super) fn begin_session(has_terminal: bool) -> rustix::io::Result<()> {
    rustix::process::setsid()?;
    if has_terminal {
        rustix::process::ioctl_tiocsctty(rustix::stdio::stdin())?;
    }
    for signal in 1..=LAST_STANDARD_SIGNAL {
        // SAFETY: the default action runs no code of this process. SIGKILL and
        // SIGSTOP, whose action is fixed, already have it.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    let _ = rustix::process::setpriority_process(None, 0);
    rustix::process::umask(Mode::WGRP | Mode::WOTH);
    let limit = rustix::process::getrlimit(Resource::Nofile);
    rustix::process::setrlimit(
        Resource::Nofile,
        Rlimit {
            current: limit.maximum.map_or(Some(DESCRIPTOR_LIMIT), |hard| {
                Some(hard.min(DESCRIPTOR_LIMIT))
            }),
            maximum: limit.maximum,
        },
    )?;
    // `OOMScoreAdjust=` of the agent's unit (proc_pid_oom_score_adj(5)). If this
    // is not permitted, the agent had no such protection.
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    if let Ok(file) = rustix::fs::openat(CWD, c"/proc/self/oom_score_adj", flags, Mode::empty()) {
        let _ = rustix::io::write(&file, b"0");
    }
    Ok(())
}
