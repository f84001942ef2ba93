//! One running program: its end, signals for it, and what becomes of it when
//! nobody wants it any more.

use std::io;

use rustix::fd::{AsFd, OwnedFd};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, kill_process_group, pidfd_open, waitid,
};
use sandbox_protocol::agent::message::Ended;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::async_fd;

/// A child that leads a session and process group of its own.
///
/// It is waited for only when this is dropped: until then its number names
/// nobody else, nor does that of its group.
#[derive(Debug)]
pub(super) struct Process {
    pid: Pid,
    /// Readable once it ended (pidfd_open(2)). There until the drop.
    end: Option<AsyncFd<OwnedFd>>,
}

impl Process {
    /// Takes charge of a child.
    pub(super) fn new(pid: Pid) -> io::Result<Self> {
        let end = pidfd_open(pid, PidfdFlags::empty())?;
        Ok(Self {
            pid,
            end: Some(async_fd::register(end, Interest::READABLE)?),
        })
    }

    /// Waits until the program ended and tells how. May be cancelled.
    pub(super) async fn ended(&self) -> io::Result<Ended> {
        let end = self.end.as_ref().expect("the pidfd is open until the drop");
        let _ready = end.readable().await?;
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        let status = waitid(WaitId::PidFd(end.get_ref().as_fd()), look)?;
        let number = |code: i32| u8::try_from(code).unwrap_or(u8::MAX);
        Ok(match status {
            Some(status) => match (status.exit_status(), status.terminating_signal()) {
                (Some(code), _) => Ended::Exited(number(code)),
                (None, signal) => Ended::Killed(signal.map_or(0, number)),
            },
            None => return Err(io::ErrorKind::NotFound.into()),
        })
    }

    /// Sends a signal to the program and what it started. A number that is no
    /// signal's, or a group without members, is no error.
    pub(super) fn signal(&self, number: u8) {
        if let Some(signal) = Signal::from_named_raw(i32::from(number)) {
            self.send(signal);
        }
    }

    /// Tells the program and what it started that nobody looks any more, as
    /// when a terminal is closed.
    pub(super) fn hang_up(&self) {
        self.send(Signal::HUP);
        // A stopped one must run to notice.
        self.send(Signal::CONT);
    }

    fn send(&self, signal: Signal) {
        let _ = kill_process_group(self.pid, signal);
    }
}

/// Waits for an ended child, so that the kernel forgets it.
fn reap(end: &AsyncFd<OwnedFd>, option: WaitIdOptions) -> bool {
    let end = WaitId::PidFd(end.get_ref().as_fd());
    // An error means that there is no such child.
    !matches!(waitid(end, WaitIdOptions::EXITED | option), Ok(None))
}

impl Drop for Process {
    /// A program that has not ended is hung up on, and waited for in the
    /// background.
    fn drop(&mut self) {
        let Some(end) = self.end.take() else { return };
        if reap(&end, WaitIdOptions::NOHANG) {
            return;
        }
        self.hang_up();
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                let _ended = end.readable().await.map(drop);
                reap(&end, WaitIdOptions::NOHANG);
            });
        }
    }
}
