//! The pseudo-terminal that a command in the guest gets, modelled on the local one.

use std::io::IsTerminal;
use std::os::fd::{AsFd, OwnedFd};

use russh::Pty;
use rustix::termios::{
    self, ControlModes, InputModes, LocalModes, OutputModes, SpecialCodeIndex, Termios,
};

use sandbox_host::streams::Streams;
use sandbox_host::terminal::{WindowSize, window_size};

/// The model of a pseudo-terminal in the guest.
#[derive(Debug)]
pub struct PtyRequest {
    /// The value of `TERM` in the guest.
    pub term: String,
    /// The terminal of the user's input. Its modes are copied, then it is put into raw mode.
    pub keyboard: Option<OwnedFd>,
    /// The terminal that gives the size. Without one, the size is 80×24.
    pub screen: Option<OwnedFd>,
}

impl PtyRequest {
    /// Takes keyboard and screen from those of `streams` that are terminals.
    ///
    /// # Errors
    /// Fails if the process has no free descriptor.
    pub fn for_streams(streams: &Streams, term: String) -> std::io::Result<Self> {
        let keyboard = if streams.input.is_terminal() {
            Some(streams.input.try_clone()?)
        } else {
            None
        };
        let screen = [&streams.input, &streams.output, &streams.error]
            .into_iter()
            .find(|stream| stream.is_terminal())
            .map(|stream| stream.try_clone())
            .transpose()?;
        Ok(Self {
            term,
            keyboard,
            screen,
        })
    }

    pub(crate) fn size(&self) -> WindowSize {
        self.screen
            .as_ref()
            .and_then(|screen| window_size(screen.as_fd()))
            .unwrap_or_default()
    }

    /// Converts the request for the library.
    pub(crate) fn terminal(&self) -> sandbox::Terminal {
        let modes = self.modes().into_iter();
        sandbox::Terminal::new(&self.term, terminal_size(self.size()))
            .modes(modes.map(|(code, value)| (code as u8, value)))
    }

    /// Returns the modes to request. An empty list keeps the guest's defaults.
    pub(crate) fn modes(&self) -> Vec<(Pty, u32)> {
        self.keyboard
            .as_ref()
            .and_then(|keyboard| termios::tcgetattr(keyboard).ok())
            .map(|modes| encode(&modes))
            .unwrap_or_default()
    }
}

pub(super) fn terminal_size(window: WindowSize) -> sandbox::TerminalSize {
    sandbox::TerminalSize::new(window.rows, window.columns)
        .pixels(window.pixel_width, window.pixel_height)
}

/// `TTY_OP_ISPEED` and `TTY_OP_OSPEED`. A local window has no speed, so this is OpenSSH's value.
const SPEED: u32 = 38_400;

/// Encodes terminal modes by RFC 4254 section 8 (`IUTF8` from RFC 8160).
fn encode(modes: &Termios) -> Vec<(Pty, u32)> {
    let characters = [
        (Pty::VINTR, SpecialCodeIndex::VINTR),
        (Pty::VQUIT, SpecialCodeIndex::VQUIT),
        (Pty::VERASE, SpecialCodeIndex::VERASE),
        (Pty::VKILL, SpecialCodeIndex::VKILL),
        (Pty::VEOF, SpecialCodeIndex::VEOF),
        (Pty::VEOL, SpecialCodeIndex::VEOL),
        (Pty::VEOL2, SpecialCodeIndex::VEOL2),
        (Pty::VSTART, SpecialCodeIndex::VSTART),
        (Pty::VSTOP, SpecialCodeIndex::VSTOP),
        (Pty::VSUSP, SpecialCodeIndex::VSUSP),
        (Pty::VREPRINT, SpecialCodeIndex::VREPRINT),
        (Pty::VWERASE, SpecialCodeIndex::VWERASE),
        (Pty::VLNEXT, SpecialCodeIndex::VLNEXT),
        (Pty::VDISCARD, SpecialCodeIndex::VDISCARD),
    ]
    .map(|(code, index)| (code, character(modes.special_codes[index])));
    let input = [
        (Pty::IGNPAR, InputModes::IGNPAR),
        (Pty::PARMRK, InputModes::PARMRK),
        (Pty::INPCK, InputModes::INPCK),
        (Pty::ISTRIP, InputModes::ISTRIP),
        (Pty::INLCR, InputModes::INLCR),
        (Pty::IGNCR, InputModes::IGNCR),
        (Pty::ICRNL, InputModes::ICRNL),
        (Pty::IXON, InputModes::IXON),
        (Pty::IXANY, InputModes::IXANY),
        (Pty::IXOFF, InputModes::IXOFF),
        (Pty::IMAXBEL, InputModes::IMAXBEL),
        (Pty::IUTF8, InputModes::IUTF8),
    ]
    .map(|(code, flag)| (code, u32::from(modes.input_modes.contains(flag))));
    let local = [
        (Pty::ISIG, LocalModes::ISIG),
        (Pty::ICANON, LocalModes::ICANON),
        (Pty::ECHO, LocalModes::ECHO),
        (Pty::ECHOE, LocalModes::ECHOE),
        (Pty::ECHOK, LocalModes::ECHOK),
        (Pty::ECHONL, LocalModes::ECHONL),
        (Pty::NOFLSH, LocalModes::NOFLSH),
        (Pty::TOSTOP, LocalModes::TOSTOP),
        (Pty::IEXTEN, LocalModes::IEXTEN),
        (Pty::ECHOCTL, LocalModes::ECHOCTL),
        (Pty::ECHOKE, LocalModes::ECHOKE),
        (Pty::PENDIN, LocalModes::PENDIN),
    ]
    .map(|(code, flag)| (code, u32::from(modes.local_modes.contains(flag))));
    let output = [
        (Pty::OPOST, OutputModes::OPOST),
        (Pty::ONLCR, OutputModes::ONLCR),
        (Pty::OCRNL, OutputModes::OCRNL),
        (Pty::ONOCR, OutputModes::ONOCR),
        (Pty::ONLRET, OutputModes::ONLRET),
    ]
    .map(|(code, flag)| (code, u32::from(modes.output_modes.contains(flag))));
    let control = [
        (Pty::CS7, ControlModes::CS7),
        (Pty::CS8, ControlModes::CS8),
        (Pty::PARENB, ControlModes::PARENB),
        (Pty::PARODD, ControlModes::PARODD),
    ]
    .map(|(code, flag)| (code, u32::from(modes.control_modes.contains(flag))));
    let speeds = [(Pty::TTY_OP_ISPEED, SPEED), (Pty::TTY_OP_OSPEED, SPEED)];
    [
        &characters[..],
        &input[..],
        &local[..],
        &output[..],
        &control[..],
        &speeds[..],
    ]
    .concat()
}

/// Encodes a control character. A disabled one is 255 in RFC 4254 section 8, and 0 in Linux.
fn character(code: u8) -> u32 {
    match code {
        0 => 255,
        code => code.into(),
    }
}
