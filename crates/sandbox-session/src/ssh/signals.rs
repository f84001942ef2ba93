//! Signal names of SSH (RFC 4254 section 6.10).

use russh::Sig;

use crate::RemoteSignal;
use sandbox_host::notices::Termination;

/// Returns the signal that killed a command.
pub(super) fn killed_by(signal: &Sig) -> RemoteSignal {
    RemoteSignal::numbered(match signal {
        Sig::HUP => 1,
        Sig::INT => 2,
        Sig::QUIT => 3,
        Sig::ILL => 4,
        Sig::ABRT => 6,
        Sig::FPE => 8,
        Sig::KILL => 9,
        Sig::USR1 => 10,
        Sig::SEGV => 11,
        Sig::PIPE => 13,
        Sig::ALRM => 14,
        Sig::TERM => 15,
        // Not in the RFC, but sent by OpenSSH.
        Sig::Custom(name) if name == "USR2" => 12,
        // OpenSSH sends `SIG@openssh.com` for all other signals.
        Sig::Custom(_) => return RemoteSignal::UNKNOWN,
    })
}

/// Returns the SSH signal of a termination.
pub(super) fn request_of(termination: Termination) -> Sig {
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
    use crate::Ending;

    #[test]
    fn exit_code_of_each_signal_matches_shell() {
        let killed = |signal| Ending::Killed(killed_by(&signal)).exit_code();
        assert_eq!(killed(Sig::KILL), 137);
        assert_eq!(killed(Sig::SEGV), 139);
        assert_eq!(killed(Sig::Custom("USR2".into())), 140);
        assert_eq!(killed(Sig::Custom("SIG@openssh.com".into())), 255);
    }
}
