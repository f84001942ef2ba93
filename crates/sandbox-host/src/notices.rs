//! What the operating system tells a running command: signals and changes of the terminal.
//!
//! Signals become values here, so that the code which reacts to them is tested without sending
//! any signal to the test process.

use std::io;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// A request to end, as a terminal, a service manager or a user sends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Termination {
    /// SIGINT, Ctrl-C.
    Interrupt,
    /// SIGTERM.
    Terminate,
    /// SIGHUP, the terminal went away.
    Hangup,
    /// SIGQUIT, Ctrl-\.
    Quit,
}

impl Termination {
    /// The number of the signal on Linux (`signal(7)`, the same on every architecture).
    pub fn number(self) -> u8 {
        match self {
            Self::Hangup => 1,
            Self::Interrupt => 2,
            Self::Quit => 3,
            Self::Terminate => 15,
        }
    }
}

/// One thing that happened to this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notice {
    /// Somebody wants the command to end.
    Termination(Termination),
    /// SIGWINCH: the terminal has another size.
    Resized,
    /// SIGCONT: the process was stopped and goes on; a shell may have changed the terminal's modes.
    Continued,
}

/// Notices wait here when nobody takes them; more than these are dropped, since a repetition
/// carries no news.
const CAPACITY: usize = 16;

/// A stream of [`Notice`]s.
///
/// From the first [`Notices::of_process`] on, the signals no longer have their default effect for
/// the rest of the life of the process.
#[derive(Debug)]
pub struct Notices {
    receiver: mpsc::Receiver<Notice>,
    listener: Option<JoinHandle<()>>,
}

impl Notices {
    /// The notices of this process. Needs a running tokio runtime.
    ///
    /// # Errors
    /// When a signal handler cannot be installed.
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

    /// Notices that somebody else sends.
    pub fn channel() -> (mpsc::Sender<Notice>, Self) {
        let (sender, receiver) = mpsc::channel(CAPACITY);
        let notices = Self {
            receiver,
            listener: None,
        };
        (sender, notices)
    }

    /// Waits for the next notice, for ever if none can come any more. Safe to cancel.
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
