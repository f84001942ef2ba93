//! The pseudo-terminal that a command in the guest gets, modelled on the local one.

use std::io::IsTerminal;
use std::os::fd::{AsFd, OwnedFd};

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
        sandbox::Terminal::new(&self.term, terminal_size(self.size())).modes(modes)
    }

    /// Returns the modes to request. An empty list keeps the guest's defaults.
    pub(crate) fn modes(&self) -> Vec<(u8, u32)> {
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

/// The opcodes of terminal modes: RFC 4254 section 8, `IUTF8` from RFC 8160.
mod opcode {
    pub(super) const VINTR: u8 = 1;
    pub(super) const VQUIT: u8 = 2;
    pub(super) const VERASE: u8 = 3;
    pub(super) const VKILL: u8 = 4;
    pub(super) const VEOF: u8 = 5;
    pub(super) const VEOL: u8 = 6;
    pub(super) const VEOL2: u8 = 7;
    pub(super) const VSTART: u8 = 8;
    pub(super) const VSTOP: u8 = 9;
    pub(super) const VSUSP: u8 = 10;
    pub(super) const VREPRINT: u8 = 12;
    pub(super) const VWERASE: u8 = 13;
    pub(super) const VLNEXT: u8 = 14;
    pub(super) const VDISCARD: u8 = 18;
    pub(super) const IGNPAR: u8 = 30;
    pub(super) const PARMRK: u8 = 31;
    pub(super) const INPCK: u8 = 32;
    pub(super) const ISTRIP: u8 = 33;
    pub(super) const INLCR: u8 = 34;
    pub(super) const IGNCR: u8 = 35;
    pub(super) const ICRNL: u8 = 36;
    pub(super) const IXON: u8 = 38;
    pub(super) const IXANY: u8 = 39;
    pub(super) const IXOFF: u8 = 40;
    pub(super) const IMAXBEL: u8 = 41;
    pub(super) const IUTF8: u8 = 42;
    pub(super) const ISIG: u8 = 50;
    pub(super) const ICANON: u8 = 51;
    pub(super) const ECHO: u8 = 53;
    pub(super) const ECHOE: u8 = 54;
    pub(super) const ECHOK: u8 = 55;
    pub(super) const ECHONL: u8 = 56;
    pub(super) const NOFLSH: u8 = 57;
    pub(super) const TOSTOP: u8 = 58;
    pub(super) const IEXTEN: u8 = 59;
    pub(super) const ECHOCTL: u8 = 60;
    pub(super) const ECHOKE: u8 = 61;
    pub(super) const PENDIN: u8 = 62;
    pub(super) const OPOST: u8 = 70;
    pub(super) const ONLCR: u8 = 72;
    pub(super) const OCRNL: u8 = 73;
    pub(super) const ONOCR: u8 = 74;
    pub(super) const ONLRET: u8 = 75;
    pub(super) const CS7: u8 = 90;
    pub(super) const CS8: u8 = 91;
    pub(super) const PARENB: u8 = 92;
    pub(super) const PARODD: u8 = 93;
    pub(super) const TTY_OP_ISPEED: u8 = 128;
    pub(super) const TTY_OP_OSPEED: u8 = 129;
}

/// Encodes terminal modes by RFC 4254 section 8 (`IUTF8` from RFC 8160).
fn encode(modes: &Termios) -> Vec<(u8, u32)> {
    let characters = [
        (opcode::VINTR, SpecialCodeIndex::VINTR),
        (opcode::VQUIT, SpecialCodeIndex::VQUIT),
        (opcode::VERASE, SpecialCodeIndex::VERASE),
        (opcode::VKILL, SpecialCodeIndex::VKILL),
        (opcode::VEOF, SpecialCodeIndex::VEOF),
        (opcode::VEOL, SpecialCodeIndex::VEOL),
        (opcode::VEOL2, SpecialCodeIndex::VEOL2),
        (opcode::VSTART, SpecialCodeIndex::VSTART),
        (opcode::VSTOP, SpecialCodeIndex::VSTOP),
        (opcode::VSUSP, SpecialCodeIndex::VSUSP),
        (opcode::VREPRINT, SpecialCodeIndex::VREPRINT),
        (opcode::VWERASE, SpecialCodeIndex::VWERASE),
        (opcode::VLNEXT, SpecialCodeIndex::VLNEXT),
        (opcode::VDISCARD, SpecialCodeIndex::VDISCARD),
    ]
    .map(|(code, index)| (code, character(modes.special_codes[index])));
    let input = [
        (opcode::IGNPAR, InputModes::IGNPAR),
        (opcode::PARMRK, InputModes::PARMRK),
        (opcode::INPCK, InputModes::INPCK),
        (opcode::ISTRIP, InputModes::ISTRIP),
        (opcode::INLCR, InputModes::INLCR),
        (opcode::IGNCR, InputModes::IGNCR),
        (opcode::ICRNL, InputModes::ICRNL),
        (opcode::IXON, InputModes::IXON),
        (opcode::IXANY, InputModes::IXANY),
        (opcode::IXOFF, InputModes::IXOFF),
        (opcode::IMAXBEL, InputModes::IMAXBEL),
        (opcode::IUTF8, InputModes::IUTF8),
    ]
    .map(|(code, flag)| (code, u32::from(modes.input_modes.contains(flag))));
    let local = [
        (opcode::ISIG, LocalModes::ISIG),
        (opcode::ICANON, LocalModes::ICANON),
        (opcode::ECHO, LocalModes::ECHO),
        (opcode::ECHOE, LocalModes::ECHOE),
        (opcode::ECHOK, LocalModes::ECHOK),
        (opcode::ECHONL, LocalModes::ECHONL),
        (opcode::NOFLSH, LocalModes::NOFLSH),
        (opcode::TOSTOP, LocalModes::TOSTOP),
        (opcode::IEXTEN, LocalModes::IEXTEN),
        (opcode::ECHOCTL, LocalModes::ECHOCTL),
        (opcode::ECHOKE, LocalModes::ECHOKE),
        (opcode::PENDIN, LocalModes::PENDIN),
    ]
    .map(|(code, flag)| (code, u32::from(modes.local_modes.contains(flag))));
    let output = [
        (opcode::OPOST, OutputModes::OPOST),
        (opcode::ONLCR, OutputModes::ONLCR),
        (opcode::OCRNL, OutputModes::OCRNL),
        (opcode::ONOCR, OutputModes::ONOCR),
        (opcode::ONLRET, OutputModes::ONLRET),
    ]
    .map(|(code, flag)| (code, u32::from(modes.output_modes.contains(flag))));
    let control = [
        (opcode::CS7, ControlModes::CS7),
        (opcode::CS8, ControlModes::CS8),
        (opcode::PARENB, ControlModes::PARENB),
        (opcode::PARODD, ControlModes::PARODD),
    ]
    .map(|(code, flag)| (code, u32::from(modes.control_modes.contains(flag))));
    let speeds = [
        (opcode::TTY_OP_ISPEED, SPEED),
        (opcode::TTY_OP_OSPEED, SPEED),
    ];
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
