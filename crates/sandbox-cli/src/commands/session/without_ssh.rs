//! The same functions as `by_ssh.rs`, in a program that was built without its feature `ssh`.

use sandbox::Sandbox;
use sandbox_host::hint::Hint;

use super::Local;
use crate::commands::Outcome;
use crate::output::Report;
use sandbox_session::GuestCommand;

/// Returns no keys: only an SSH client can ask an `ssh-agent`.
pub(super) async fn agent_keys() -> Vec<String> {
    Vec::new()
}

/// Returns the error that a session needs SSH.
pub(super) async fn command(
    sandbox: &mut Sandbox,
    _command: &GuestCommand,
    _local: Local<'_>,
) -> Outcome {
    Err(needs_ssh(sandbox))
}

/// Returns the error that a session needs SSH.
pub(super) async fn shell(sandbox: &mut Sandbox, _local: Local<'_>) -> Outcome {
    Err(needs_ssh(sandbox))
}

fn needs_ssh(sandbox: &Sandbox) -> Report {
    Report::new(
        "the guest agent does not answer, and this program was built without SSH",
        Some(Hint::text(format!(
            "connect with `ssh {}`, or build `sandbox` with the feature `ssh`",
            sandbox.name()
        ))),
    )
}
