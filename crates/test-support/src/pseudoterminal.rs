//! A terminal without a screen, for sessions that a test drives.

use std::os::fd::OwnedFd;

use nix::pty::{OpenptyResult, openpty};
use rustix::termios::{InputModes, LocalModes, OutputModes, Winsize, tcgetattr, tcsetwinsize};
use sandbox_host::streams::Streams;

/// A pseudoterminal with both its ends.
pub struct Pseudoterminal {
    /// The end of the keyboard and the screen.
    master: OwnedFd,
    /// The end of the programs.
    slave: OwnedFd,
}

/// The modes of a terminal that a session changes.
#[derive(Debug, PartialEq, Eq)]
pub struct TerminalModes {
    local: LocalModes,
    input: InputModes,
    output: OutputModes,
}

impl TerminalModes {
    /// Returns whether the terminal passes each byte at once, instead of whole lines.
    pub fn is_raw(&self) -> bool {
        !self.local.contains(LocalModes::ICANON)
    }
}

impl Pseudoterminal {
    /// Opens a terminal of this size.
    pub fn open(rows: u16, columns: u16) -> Self {
        let OpenptyResult { master, slave } = openpty(None, None).unwrap();
        let terminal = Self { master, slave };
        terminal.resize(rows, columns);
        terminal
    }

    /// Returns streams at this terminal, except for the output, which goes to `output`.
    pub fn streams(&self, output: impl Into<OwnedFd>) -> Streams {
        Streams {
            input: self.slave.try_clone().unwrap(),
            output: output.into(),
            error: self.slave.try_clone().unwrap(),
        }
    }

    /// Resizes the window.
    pub fn resize(&self, rows: u16, columns: u16) {
        let size = Winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&self.master, size).unwrap();
    }

    /// Types these keys.
    pub fn send(&self, keys: &[u8]) {
        assert_eq!(nix::unistd::write(&self.master, keys), Ok(keys.len()));
    }

    /// Returns the present modes.
    pub fn modes(&self) -> TerminalModes {
        let all = tcgetattr(&self.slave).unwrap();
        TerminalModes {
            local: all.local_modes,
            input: all.input_modes,
            output: all.output_modes,
        }
    }
}
