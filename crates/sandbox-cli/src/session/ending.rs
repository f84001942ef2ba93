//! How a command in the guest ended.

use sandbox_host::notices::Termination;

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
            Self::Killed(signal) => signal
                .number()
                .map_or(u8::MAX, |number| number.saturating_add(128)),
            Self::OutputClosed => BROKEN_PIPE_CODE,
            Self::Abandoned(termination) => 128 + termination.number(),
        }
    }
}

/// The signal that killed a command, as far as the guest could tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RemoteSignal(Option<u8>);

impl RemoteSignal {
    /// One that whatever carried the session has no name for (over SSH, SIGBUS for example).
    pub(crate) const UNKNOWN: Self = Self(None);

    /// The signal of this number on Linux (signal(7)).
    pub(crate) const fn numbered(number: u8) -> Self {
        Self(Some(number))
    }

    /// Its number on Linux, if it is known.
    pub fn number(self) -> Option<u8> {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_those_of_a_shell() {
        let killed = |number| Ending::Killed(RemoteSignal::numbered(number)).exit_code();
        assert_eq!(Ending::Exited(0).exit_code(), 0);
        assert_eq!(Ending::Exited(255).exit_code(), 255);
        assert_eq!(killed(9), 137);
        assert_eq!(killed(64), 192);
        // No signal of Linux, but a guest may say so.
        assert_eq!(killed(255), 255);
        assert_eq!(Ending::Killed(RemoteSignal::UNKNOWN).exit_code(), 255);
        assert_eq!(Ending::OutputClosed.exit_code(), 141);
        assert_eq!(Ending::Abandoned(Termination::Interrupt).exit_code(), 130);
        assert_eq!(Ending::Abandoned(Termination::Terminate).exit_code(), 143);
    }
}
