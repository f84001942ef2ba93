//! Notices of the operating system to a running command: signals and changes of the terminal.
//!
//! Signals become values here, so that tests of the code that handles them send no signal to the
//! test process.

use std::io;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// A signal by which a terminal, a service manager or a user ends the command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Termination {
    /// SIGINT, Ctrl-C.
    Interrupt,
    /// SIGTERM.
    Terminate,
    /// SIGHUP, the terminal is closed.
    Hangup,
    /// SIGQUIT, Ctrl-\.
    Quit,
}

impl Termination {
    /// Returns the number of the signal on Linux (signal(7), the same on every architecture).
    pub fn number(self) -> u8 {
        match self {
            Self::Hangup => 1,
            Self::Interrupt => 2,
            Self::Quit => 3,
            Self::Terminate => 15,
        }
    }
}

/// An event of this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notice {
    /// A signal to end the command.
    Termination(Termination),
    /// SIGWINCH: the terminal has another size.
    Resized,
    /// SIGCONT: the stopped process continues. A shell can have changed the terminal's modes.
    Continued,
}

/// The maximum number of queued notices. Further notices are dropped, since a repeated notice adds
/// no information.
const CAPACITY: usize = 16;

/// A stream of [`Notice`]s.
///
/// After the first [`Notices::of_process`], the signals no longer have their default effect in this
/// process.
#[derive(Debug)]
pub struct Notices {
    receiver: mpsc::Receiver<Notice>,
    listener: Option<JoinHandle<()>>,
}

impl Notices {
    /// Returns the notices of this process. Needs a running tokio runtime.
    ///
    /// # Errors
    /// Fails if a signal handler cannot be installed.
    pub fn of_process() -> io::Result<Self> {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut hangup = signal(SignalKind::hangup())?;
        let mut quit = signal(SignalKind::quit())?;
        let mut resized = signal(SignalKind::window_change())?;
        let mut continued = signal(SignalKind::from_raw(nix::libc::SIGCONT))?;
        let (sender, receiver) = mpsc::channel(CAPACITY);
        let listener = tokio::spawn(async move {
            loop {
                let notice = tokio::select! {
                    Some(()) = interrupt.recv() => Notice::Termination(Termination::Interrupt),
                    Some(()) = terminate.recv() => Notice::Termination(Termination::Terminate),
                    Some(()) = hangup.recv() => Notice::Termination(Termination::Hangup),
                    Some(()) = quit.recv() => Notice::Termination(Termination::Quit),
                    Some(()) = resized.recv() => Notice::Resized,
                    Some(()) = continued.recv() => Notice::Continued,
                    else => break,
                };
                if let Err(mpsc::error::TrySendError::Closed(_)) = sender.try_send(notice) {
                    break;
                }
            }
        });
        Ok(Self {
            receiver,
            listener: Some(listener),
        })
    }

    /// Returns a sender, and the notices that come from it.
    pub fn channel() -> (mpsc::Sender<Notice>, Self) {
        let (sender, receiver) = mpsc::channel(CAPACITY);
        let notices = Self {
            receiver,
            listener: None,
        };
        (sender, notices)
    }

    /// Waits for the next notice, forever if all senders are gone. Safe to cancel.
    pub async fn next(&mut self) -> Notice {
        match self.receiver.recv().await {
            Some(notice) => notice,
            None => std::future::pending().await,
        }
    }
}

impl Drop for Notices {
    fn drop(&mut self) {
        if let Some(listener) = &self.listener {
            listener.abort();
        }
    }
}
