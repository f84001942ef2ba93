//! The end of a command in the guest.

use sandbox_host::notices::Termination;

/// The status after the output was closed: 128 + SIGPIPE.
const BROKEN_PIPE_CODE: u8 = 128 + 13;

/// The end of a command, seen from the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// It exited with this status.
    Exited(u8),
    /// A signal killed it.
    Killed(RemoteSignal),
    /// The reader closed our output, as with `… | head`.
    OutputClosed,
    /// The user stopped waiting. The command may still run in the guest.
    Abandoned(Termination),
}

impl Ending {
    /// Returns the exit status for this process: the command's status, or 128+n for a signal.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Exited(status) => status,
            Self::Killed(signal) => signal
                .number()
                .map_or(u8::MAX, |number| number.saturating_add(128)),
            Self::OutputClosed => BROKEN_PIPE_CODE,
            Self::Abandoned(termination) => 128 + termination.number(),
        }
    }
}

/// The signal that killed a command, if it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RemoteSignal(Option<u8>);

impl RemoteSignal {
    /// A signal that the transport cannot name. SSH has no name for SIGBUS, for example.
    pub(crate) const UNKNOWN: Self = Self(None);

    /// Creates a signal from its Linux number (signal(7)).
    pub(crate) const fn numbered(number: u8) -> Self {
        Self(Some(number))
    }

    /// Returns the Linux number, if it is known.
    pub fn number(self) -> Option<u8> {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_code_of_each_ending_matches_shell() {
        let killed = |number| Ending::Killed(RemoteSignal::numbered(number)).exit_code();
        assert_eq!(Ending::Exited(0).exit_code(), 0);
        assert_eq!(Ending::Exited(255).exit_code(), 255);
        assert_eq!(killed(9), 137);
        assert_eq!(killed(64), 192);
        // Linux has no signal 255, but a guest may report it.
        assert_eq!(killed(255), 255);
        assert_eq!(Ending::Killed(RemoteSignal::UNKNOWN).exit_code(), 255);
        assert_eq!(Ending::OutputClosed.exit_code(), 141);
        assert_eq!(Ending::Abandoned(Termination::Interrupt).exit_code(), 130);
        assert_eq!(Ending::Abandoned(Termination::Terminate).exit_code(), 143);
    }
}
