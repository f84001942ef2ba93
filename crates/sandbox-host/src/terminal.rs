//! The terminal of this process: raw mode with a guaranteed end, and the size of the window.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, Once, PoisonError, TryLockError};

use rustix::termios::{self, OptionalActions, Termios};
use thiserror::Error;

use crate::hint::Hint;

/// Why raw mode failed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TerminalError {
    /// The modes could not be read.
    #[error("could not read the terminal's modes")]
    ReadModes(#[source] io::Error),
    /// The modes could not be changed.
    #[error("could not switch the terminal to raw mode")]
    EnterRawMode(#[source] io::Error),
    /// Another [`RawMode`] of this process is alive.
    #[error("the terminal is already in raw mode")]
    AlreadyRaw,
}

impl TerminalError {
    /// Returns a hint that avoids this terminal.
    pub fn hint(&self) -> Option<Hint> {
        match self {
            Self::ReadModes(_) | Self::EnterRawMode(_) => {
                let hint = Hint::text("run the command with ").setting_name("no-tty");
                Some(hint.then(", or in another terminal"))
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
    /// Width in pixels, 0 if unknown.
    pub pixel_width: u16,
    /// Height in pixels, 0 if unknown.
    pub pixel_height: u16,
}

impl Default for WindowSize {
    /// Returns the size of a DEC VT100, the usual default of programs.
    fn default() -> Self {
        Self {
            columns: 80,
            rows: 24,
            pixel_width: 0,
            pixel_height: 0,
        }
    }
}

/// Returns the size of the window; `None` if `terminal` is not a terminal or its size is 0.
pub fn window_size(terminal: BorrowedFd<'_>) -> Option<WindowSize> {
    let size = termios::tcgetwinsize(terminal).ok()?;
    (size.ws_col > 0 && size.ws_row > 0).then_some(WindowSize {
        columns: size.ws_col,
        rows: size.ws_row,
        pixel_width: size.ws_xpixel,
        pixel_height: size.ws_ypixel,
    })
}

/// The terminal in raw mode and its previous modes, while a [`RawMode`] is alive.
struct Saved {
    terminal: OwnedFd,
    modes: Termios,
}

static SAVED: Mutex<Option<Saved>> = Mutex::new(None);

/// Raw mode: the terminal passes each byte as typed, echoes nothing, and Ctrl-C is a byte.
///
/// Three events restore the previous modes: the drop of the guard, a panic, and [`restore`] before
/// an exit. A panic restores them also if it aborts the process without destructors. The holder
/// must catch the signals that end the process ([`crate::notices`]) before it enters raw mode.
#[derive(Debug)]
pub struct RawMode(());

impl RawMode {
    /// Switches `terminal` to raw mode.
    ///
    /// # Errors
    /// [`TerminalError`] if `terminal` is not a terminal, or another [`RawMode`] is alive.
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

    /// Enters raw mode again, after a shell reset the terminal of the stopped process.
    pub fn renew(&self) {
        if let Some(saved) = &*SAVED.lock().unwrap_or_else(PoisonError::into_inner) {
            // A closed terminal needs no modes.
            let _ = apply_raw(saved.terminal.as_fd(), &saved.modes);
        }
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        restore();
    }
}

/// Restores the previous modes of the terminal if a [`RawMode`] is alive. It never blocks, so a
/// panic hook can call it.
pub fn restore() {
    let mut saved = match SAVED.try_lock() {
        Ok(saved) => saved,
        Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
        Err(TryLockError::WouldBlock) => return,
    };
    if let Some(Saved { terminal, modes }) = saved.take() {
        // A closed terminal needs no modes.
        let _ = termios::tcsetattr(terminal, OptionalActions::Now, &modes);
    }
}

fn apply_raw(terminal: BorrowedFd<'_>, former: &Termios) -> io::Result<()> {
    let mut raw = former.clone();
    raw.make_raw();
    Ok(termios::tcsetattr(terminal, OptionalActions::Now, &raw)?)
}
