//! How a command in the guest ended.

use russh::Sig;

use crate::host::notices::Termination;

/// The status of a command whose output nobody reads any more: 128 + SIGPIPE.
const BROKEN_PIPE_CODE: u8 = 128 + 13;

/// How a command ended, seen from the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// It exited with this status.
    Exited(u8),
    /// A signal killed it.
    Killed(RemoteSignal),
    /// Whoever read our output went away, as with `… | head`.
    OutputClosed,
    /// The user gave up waiting for it; it may still run in the guest.
    Abandoned(Termination),
}

impl Ending {
    /// The exit status for this process: the command's own, 128+n for a signal.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Exited(status) => status,
            Self::Killed(signal) => signal.number().map_or(u8::MAX, |number| 128 + number),
            Self::OutputClosed => BROKEN_PIPE_CODE,
            Self::Abandoned(termination) => 128 + termination.number(),
        }
    }
}

/// The signal that killed a command, by the names of RFC 4254 section 6.10.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RemoteSignal(Option<u8>);

impl RemoteSignal {
    pub(crate) fn of(signal: &Sig) -> Self {
        Self(match signal {
            Sig::HUP => Some(1),
            Sig::INT => Some(2),
            Sig::QUIT => Some(3),
            Sig::ILL => Some(4),
            Sig::ABRT => Some(6),
            Sig::FPE => Some(8),
            Sig::KILL => Some(9),
            Sig::USR1 => Some(10),
            Sig::SEGV => Some(11),
            Sig::PIPE => Some(13),
            Sig::ALRM => Some(14),
            Sig::TERM => Some(15),
            // Not in the RFC, but sent by OpenSSH.
            Sig::Custom(name) if name == "USR2" => Some(12),
            // OpenSSH names all others `SIG@openssh.com`.
            Sig::Custom(_) => None,
        })
    }

    /// Its number on Linux; `None` for one that SSH has no name for (SIGBUS, for example).
    pub fn number(self) -> Option<u8> {
        self.0
    }
}

/// What to call a termination towards the server.
pub(crate) fn request_of(termination: Termination) -> Sig {
    match termination {
        Termination::Interrupt => Sig::INT,
        Termination::Terminate => Sig::TERM,
        Termination::Hangup => Sig::HUP,
        Termination::Quit => Sig::QUIT,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_those_of_a_shell() {
        let killed = |signal| Ending::Killed(RemoteSignal::of(&signal)).exit_code();
        assert_eq!(Ending::Exited(0).exit_code(), 0);
        assert_eq!(Ending::Exited(255).exit_code(), 255);
        assert_eq!(killed(Sig::KILL), 137);
        assert_eq!(killed(Sig::SEGV), 139);
        assert_eq!(killed(Sig::Custom("USR2".into())), 140);
        assert_eq!(killed(Sig::Custom("SIG@openssh.com".into())), 255);
        assert_eq!(Ending::OutputClosed.exit_code(), 141);
        assert_eq!(Ending::Abandoned(Termination::Interrupt).exit_code(), 130);
        assert_eq!(Ending::Abandoned(Termination::Terminate).exit_code(), 143);
    }
}
