//! The terminal this process runs in: raw mode that always ends, and the size of the window.

use crate::hint::Hint;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, Once, PoisonError, TryLockError};

use rustix::termios::{self, OptionalActions, Termios};
use thiserror::Error;

/// What can go wrong with a terminal.
#[derive(Debug, Error)]
pub enum TerminalError {
    /// The modes could not be read.
    #[error("the modes of the terminal could not be read")]
    ReadModes(#[source] io::Error),
    /// The modes could not be changed.
    #[error("the terminal could not be switched to raw mode")]
    EnterRawMode(#[source] io::Error),
    /// Another part of this process already holds the terminal.
    #[error("the terminal is already in raw mode")]
    AlreadyRaw,
}

impl TerminalError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<Hint> {
        match self {
            Self::ReadModes(_) | Self::EnterRawMode(_) => {
                Some("run the command without a terminal (`-T`), or in another one".into())
            }
            Self::AlreadyRaw => None,
        }
    }
}

/// The size of a terminal's window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WindowSize {
    /// Width in characters.
    pub columns: u16,
    /// Height in characters.
    pub rows: u16,
    /// Width in pixels, 0 when unknown.
    pub pixel_width: u16,
    /// Height in pixels, 0 when unknown.
    pub pixel_height: u16,
}

impl Default for WindowSize {
    /// The size of a DEC VT100, which programs expect when nothing is known.
    fn default() -> Self {
        Self {
            columns: 80,
            rows: 24,
            pixel_width: 0,
            pixel_height: 0,
        }
    }
}

/// The window's size; `None` when `terminal` is none or does not know (0 columns).
pub fn window_size(terminal: BorrowedFd<'_>) -> Option<WindowSize> {
    let size = termios::tcgetwinsize(terminal).ok()?;
    (size.ws_col > 0 && size.ws_row > 0).then_some(WindowSize {
        columns: size.ws_col,
        rows: size.ws_row,
        pixel_width: size.ws_xpixel,
        pixel_height: size.ws_ypixel,
    })
}

/// The terminal in raw mode and its modes from before, for as long as a [`RawMode`] lives.
struct Saved {
    terminal: OwnedFd,
    modes: Termios,
}

static SAVED: Mutex<Option<Saved>> = Mutex::new(None);

/// Raw mode: every byte goes through as typed, nothing is echoed, Ctrl-C is a byte.
///
/// The former modes come back when the guard is dropped, when the process panics (also where a
/// panic aborts, so that no destructor runs), and through [`restore`] before a deliberate exit.
/// Signals that end the process must be caught by the holder ([`crate::notices`]), before it
/// enters raw mode.
#[derive(Debug)]
pub struct RawMode(());

impl RawMode {
    /// Switches `terminal` to raw mode.
    ///
    /// # Errors
    /// When `terminal` is none, or the process holds one in raw mode already.
    pub fn enter(terminal: BorrowedFd<'_>) -> Result<Self, TerminalError> {
        static PANIC_HOOK: Once = Once::new();
        let mut saved = SAVED.lock().unwrap_or_else(PoisonError::into_inner);
        if saved.is_some() {
            return Err(TerminalError::AlreadyRaw);
        }
        PANIC_HOOK.call_once(|| {
            let former = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |panic| {
                restore();
                former(panic);
            }));
        });
        let modes =
            termios::tcgetattr(terminal).map_err(|error| TerminalError::ReadModes(error.into()))?;
        let terminal = terminal
            .try_clone_to_owned()
            .map_err(TerminalError::EnterRawMode)?;
        apply_raw(terminal.as_fd(), &modes).map_err(TerminalError::EnterRawMode)?;
        *saved = Some(Saved { terminal, modes });
        Ok(Self(()))
    }

    /// Enters raw mode once more, after the process was stopped and a shell reset the terminal.
    pub fn renew(&self) {
        if let Some(saved) = &*SAVED.lock().unwrap_or_else(PoisonError::into_inner) {
            // A terminal that went away needs no modes.
            let _ = apply_raw(saved.terminal.as_fd(), &saved.modes);
        }
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        restore();
    }
}

/// Gives the terminal its former modes back, if a [`RawMode`] is alive. Never blocks, so that it
/// may run in a panic hook.
pub fn restore() {
    let mut saved = match SAVED.try_lock() {
        Ok(saved) => saved,
        Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
        Err(TryLockError::WouldBlock) => return,
    };
    if let Some(Saved { terminal, modes }) = saved.take() {
        // A terminal that went away needs no modes.
        let _ = termios::tcsetattr(terminal, OptionalActions::Now, &modes);
    }
}

fn apply_raw(terminal: BorrowedFd<'_>, former: &Termios) -> io::Result<()> {
    let mut raw = former.clone();
    raw.make_raw();
    Ok(termios::tcsetattr(terminal, OptionalActions::Now, &raw)?)
}
