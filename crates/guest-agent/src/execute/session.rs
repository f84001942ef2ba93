//! Gives a new process its own session, before it executes a program or a
//! login shell.

use rustix::fs::{CWD, Mode, OFlags};
use rustix::process::{Resource, Rlimit};

/// The signals above are the real-time ones, the first of them libc's own.
const LAST_USUAL_SIGNAL: libc::c_int = 31;

/// How many descriptors a program may have open, unless it raises the number
/// up to the hard limit (systemd.exec(5), "Process Properties").
const DESCRIPTORS: u64 = 1024;

/// Begins a session and undoes the settings that systemd made for the agent
/// alone. The standard library has already unblocked all signals.
pub(super) fn begin_session(has_terminal: bool) -> rustix::io::Result<()> {
    rustix::process::setsid()?;
    if has_terminal {
        rustix::process::ioctl_tiocsctty(rustix::stdio::stdin())?;
    }
    for signal in 1..=LAST_USUAL_SIGNAL {
        // SAFETY: the default action runs no code of ours. Where a signal's
        // action cannot be changed (SIGKILL), it is the default.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    let _ = rustix::process::setpriority_process(None, 0);
    rustix::process::umask(Mode::WGRP | Mode::WOTH);
    let limit = rustix::process::getrlimit(Resource::Nofile);
    rustix::process::setrlimit(
        Resource::Nofile,
        Rlimit {
            current: limit
                .maximum
                .map_or(Some(DESCRIPTORS), |hard| Some(hard.min(DESCRIPTORS))),
            maximum: limit.maximum,
        },
    )?;
    // Where this is not permitted the agent was not protected either.
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    if let Ok(file) = rustix::fs::openat(CWD, c"/proc/self/oom_score_adj", flags, Mode::empty()) {
        let _ = rustix::io::write(&file, b"0");
    }
    Ok(())
}
