//! The terminal of a command.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use sandbox_protocol::agent::message::{Size, Terminal as Message};

/// `TTY_OP_END` (RFC 4254 section 8).
const END_OF_MODES: u8 = 0;

/// The size of a terminal, in characters and, if known, in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct TerminalSize {
    /// The number of lines.
    pub rows: u16,
    /// The number of characters in a line.
    pub columns: u16,
    /// The width in pixels; 0 if unknown.
    pub pixel_width: u16,
    /// The height in pixels; 0 if unknown.
    pub pixel_height: u16,
}

impl TerminalSize {
    /// Creates a size in characters.
    pub fn new(rows: u16, columns: u16) -> Self {
        Self {
            rows,
            columns,
            pixel_width: 0,
            pixel_height: 0,
        }
    }

    /// Sets the size in pixels.
    #[must_use]
    pub fn pixels(mut self, width: u16, height: u16) -> Self {
        (self.pixel_width, self.pixel_height) = (width, height);
        self
    }

    pub(super) fn into_message(self) -> Size {
        Size {
            rows: self.rows,
            columns: self.columns,
            pixel_width: self.pixel_width,
            pixel_height: self.pixel_height,
        }
    }
}

impl Default for TerminalSize {
    /// Returns 24 lines of 80 characters.
    fn default() -> Self {
        Self::new(24, 80)
    }
}

/// The terminal of a command.
#[derive(Debug, Clone)]
pub struct Terminal {
    kind: OsString,
    size: TerminalSize,
    modes: Vec<(u8, u32)>,
}

impl Terminal {
    /// Creates a terminal with the `TERM` value `kind` and the guest's default modes.
    pub fn new(kind: impl Into<OsString>, size: TerminalSize) -> Self {
        Self {
            kind: kind.into(),
            size,
            modes: Vec::new(),
        }
    }

    /// Sets terminal modes by their numbers (RFC 4254 section 8, RFC 8160).
    #[must_use]
    pub fn modes(mut self, modes: impl IntoIterator<Item = (u8, u32)>) -> Self {
        self.modes = modes.into_iter().collect();
        self
    }

    /// Returns the terminal as a message to the agent, for tests of this workspace.
    #[doc(hidden)]
    pub fn into_message(self) -> Message {
        let mut modes = Vec::new();
        for (code, value) in self.modes {
            modes.push(code);
            modes.extend(value.to_be_bytes());
        }
        modes.push(END_OF_MODES);
        Message {
            kind: self.kind.into_vec(),
            size: self.size.into_message(),
            modes,
        }
    }
}
