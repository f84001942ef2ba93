//! Terminal modes in the encoding of SSH (RFC 4254, section 8).
//!
//! Each mode is an opcode (one byte) and a number (32 bits, big endian). The
//! list ends with opcode 0, or with an opcode without a number (160 and above).

use rustix::termios::{
    ControlModes, InputModes, LocalModes, OutputModes, SpecialCodeIndex as Code, Termios,
};

const END: u8 = 0;
const FIRST_WITHOUT_NUMBER: u8 = 160;
const INPUT_SPEED: u8 = 128;
const OUTPUT_SPEED: u8 = 129;

/// An unused control character in the encoding of SSH.
const UNUSED: u32 = 255;

/// An unused control character in Linux (`_POSIX_VDISABLE`).
const DISABLED: u8 = 0;

/// Applies `modes` to `termios`. Ignores modes that Linux does not have, as the
/// RFC requires.
pub(crate) fn apply(modes: &[u8], termios: &mut Termios) {
    for (opcode, value) in pairs(modes) {
        if let Some(code) = special_code(opcode) {
            termios.special_codes[code] = match value {
                UNUSED => DISABLED,
                character => u8::try_from(character).unwrap_or(DISABLED),
            };
        } else if let Some(mode) = input_mode(opcode) {
            termios.input_modes.set(mode, value != 0);
        } else if let Some(mode) = local_mode(opcode) {
            termios.local_modes.set(mode, value != 0);
        } else if let Some(mode) = output_mode(opcode) {
            termios.output_modes.set(mode, value != 0);
        } else {
            apply_control(opcode, value, termios);
        }
    }
}

fn pairs(modes: &[u8]) -> impl Iterator<Item = (u8, u32)> {
    modes
        .chunks_exact(5)
        .map(|pair| {
            let number = [pair[1], pair[2], pair[3], pair[4]];
            (pair[0], u32::from_be_bytes(number))
        })
        .take_while(|(opcode, _)| !matches!(*opcode, END | FIRST_WITHOUT_NUMBER..))
}

fn apply_control(opcode: u8, value: u32, termios: &mut Termios) {
    let modes = &mut termios.control_modes;
    match opcode {
        90 | 91 if value != 0 => {
            modes.remove(ControlModes::CSIZE);
            modes.insert(if opcode == 90 {
                ControlModes::CS7
            } else {
                ControlModes::CS8
            });
        }
        92 => modes.set(ControlModes::PARENB, value != 0),
        93 => modes.set(ControlModes::PARODD, value != 0),
        // Linux may not have this speed: ignore the error.
        INPUT_SPEED => drop(termios.set_input_speed(value)),
        OUTPUT_SPEED => drop(termios.set_output_speed(value)),
        _ => {}
    }
}

fn special_code(opcode: u8) -> Option<Code> {
    Some(match opcode {
        1 => Code::VINTR,
        2 => Code::VQUIT,
        3 => Code::VERASE,
        4 => Code::VKILL,
        5 => Code::VEOF,
        6 => Code::VEOL,
        7 => Code::VEOL2,
        8 => Code::VSTART,
        9 => Code::VSTOP,
        10 => Code::VSUSP,
        12 => Code::VREPRINT,
        13 => Code::VWERASE,
        14 => Code::VLNEXT,
        16 => Code::VSWTC,
        18 => Code::VDISCARD,
        _ => return None,
    })
}

fn input_mode(opcode: u8) -> Option<InputModes> {
    Some(match opcode {
        30 => InputModes::IGNPAR,
        31 => InputModes::PARMRK,
        32 => InputModes::INPCK,
        33 => InputModes::ISTRIP,
        34 => InputModes::INLCR,
        35 => InputModes::IGNCR,
        36 => InputModes::ICRNL,
        37 => InputModes::IUCLC,
        38 => InputModes::IXON,
        39 => InputModes::IXANY,
        40 => InputModes::IXOFF,
        41 => InputModes::IMAXBEL,
        42 => InputModes::IUTF8,
        _ => return None,
    })
}

fn local_mode(opcode: u8) -> Option<LocalModes> {
    Some(match opcode {
        50 => LocalModes::ISIG,
        51 => LocalModes::ICANON,
        52 => LocalModes::XCASE,
        53 => LocalModes::ECHO,
        54 => LocalModes::ECHOE,
        55 => LocalModes::ECHOK,
        56 => LocalModes::ECHONL,
        57 => LocalModes::NOFLSH,
        58 => LocalModes::TOSTOP,
        59 => LocalModes::IEXTEN,
        60 => LocalModes::ECHOCTL,
        61 => LocalModes::ECHOKE,
        62 => LocalModes::PENDIN,
        _ => return None,
    })
}

fn output_mode(opcode: u8) -> Option<OutputModes> {
    Some(match opcode {
        70 => OutputModes::OPOST,
        71 => OutputModes::OLCUC,
        72 => OutputModes::ONLCR,
        73 => OutputModes::OCRNL,
        74 => OutputModes::ONOCR,
        75 => OutputModes::ONLRET,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use rustix::pty::{OpenptFlags, openpt};
    use rustix::termios::tcgetattr;

    use super::*;

    fn new_terminal() -> Termios {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        tcgetattr(master).unwrap()
    }

    fn encoded(modes: &[(u8, u32)]) -> Vec<u8> {
        modes
            .iter()
            .flat_map(|(opcode, value)| [&[*opcode][..], &value.to_be_bytes()].concat())
            .collect()
    }

    #[test]
    fn apply_sets_known_modes_and_ignores_unknown_ones() {
        let mut termios = new_terminal();
        let modes = [
            (1, 7),    // VINTR: Ctrl-G
            (10, 255), // VSUSP: none
            (11, 25),  // VDSUSP: unknown to Linux
            (42, 1),   // IUTF8
            (38, 0),   // IXON
            (53, 0),   // ECHO
            (72, 0),   // ONLCR
            (90, 1),   // CS7
            (128, 9600),
            (129, 9600),
            (99, 1), // unknown
        ];
        apply(&encoded(&modes), &mut termios);
        assert_eq!(termios.special_codes[Code::VINTR], 7);
        assert_eq!(termios.special_codes[Code::VSUSP], 0);
        assert_eq!(termios.special_codes[Code::VQUIT], 0x1c);
        assert!(termios.input_modes.contains(InputModes::IUTF8));
        assert!(!termios.input_modes.contains(InputModes::IXON));
        assert!(termios.input_modes.contains(InputModes::ICRNL));
        assert!(!termios.local_modes.contains(LocalModes::ECHO));
        assert!(termios.local_modes.contains(LocalModes::ICANON));
        assert!(!termios.output_modes.contains(OutputModes::ONLCR));
        assert!(termios.output_modes.contains(OutputModes::OPOST));
        assert_eq!(
            termios.control_modes & ControlModes::CSIZE,
            ControlModes::CS7
        );
        assert_eq!(termios.input_speed(), 9600);
    }

    #[test]
    fn apply_stops_at_the_end_of_the_list() {
        for end in [0, 160, 255] {
            let mut termios = new_terminal();
            apply(&encoded(&[(end, 1), (53, 0)]), &mut termios);
            assert!(termios.local_modes.contains(LocalModes::ECHO), "{end}");
        }
        // Truncated within a number.
        let mut termios = new_terminal();
        apply(&[53, 0, 0, 0], &mut termios);
        assert!(termios.local_modes.contains(LocalModes::ECHO));
    }
}
