//! The process of a running program: its end, its signals, its cleanup.

use std::io;

use rustix::fd::{AsFd, OwnedFd};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, kill_process_group, pidfd_open, waitid,
};
use sandbox_protocol::agent::message::Ended;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::async_fd;

/// A child that leads its own session and process group.
///
/// Only the drop reaps it. Until then the kernel reuses neither its pid nor the
/// number of its group.
#[derive(Debug)]
pub(super) struct Process {
    pid: Pid,
    /// Readable once the child has ended (pidfd_open(2)). `Some` until the drop.
    pidfd: Option<AsyncFd<OwnedFd>>,
}

impl Process {
    /// Watches a child of this process that has not been reaped.
    pub(super) fn new(pid: Pid) -> io::Result<Self> {
        let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
        Ok(Self {
            pid,
            pidfd: Some(async_fd::register(pidfd, Interest::READABLE)?),
        })
    }

    /// Waits for the program's end and returns its status. Cancel safe.
    pub(super) async fn ended(&self) -> io::Result<Ended> {
        let pidfd = self
            .pidfd
            .as_ref()
            .expect("the pidfd is open until the drop");
        let _ready = pidfd.readable().await?;
        let without_reaping = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        let status = waitid(WaitId::PidFd(pidfd.get_ref().as_fd()), without_reaping)?;
        let number = |code: i32| u8::try_from(code).unwrap_or(u8::MAX);
        Ok(match status {
            Some(status) => match (status.exit_status(), status.terminating_signal()) {
                (Some(code), _) => Ended::Exited(number(code)),
                (None, signal) => Ended::Killed(signal.map_or(0, number)),
            },
            None => return Err(io::ErrorKind::NotFound.into()),
        })
    }

    /// Sends a signal to the program's process group. Ignores a number that
    /// names no signal, and an empty group.
    pub(super) fn signal(&self, number: u8) {
        if let Some(signal) = Signal::from_named_raw(i32::from(number)) {
            self.send(signal);
        }
    }

    /// Sends the signals that the kernel sends when a terminal is closed.
    pub(super) fn hang_up(&self) {
        self.send(Signal::HUP);
        // A stopped process must run to receive SIGHUP.
        self.send(Signal::CONT);
    }

    fn send(&self, signal: Signal) {
        let _ = kill_process_group(self.pid, signal);
    }
}

/// Reaps the child if it has ended. Returns whether it is gone.
fn reap(pidfd: &AsyncFd<OwnedFd>) -> bool {
    let child = WaitId::PidFd(pidfd.get_ref().as_fd());
    // An error means that the child no longer exists.
    !matches!(
        waitid(child, WaitIdOptions::EXITED | WaitIdOptions::NOHANG),
        Ok(None)
    )
}

impl Drop for Process {
    /// Hangs up a program that is still running, and reaps it in the
    /// background.
    fn drop(&mut self) {
        let Some(pidfd) = self.pidfd.take() else {
            return;
        };
        if reap(&pidfd) {
            return;
        }
        self.hang_up();
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                let _ended = pidfd.readable().await.map(drop);
                reap(&pidfd);
            });
        }
    }
}
