//! Sessions by SSH, for a sandbox whose guest agent does not answer.

use std::path::Path;
use std::time::{Duration, Instant};

use sandbox::{Sandbox, WORKSPACE};

use super::{Local, SHELL_USER, explain};
use crate::commands::{ExitStatus, Outcome};
use sandbox_session::ssh::{self, SshError};
use sandbox_session::{Ending, GuestCommand};

/// The time limit of an SSH login. Emulated cryptography takes about a second, and the guest may be
/// busy.
const LOGIN_DEADLINE: Duration = Duration::from_secs(60);

/// Returns the public keys of the user's `ssh-agent`, as lines of `authorized_keys`.
pub(super) async fn agent_keys() -> Vec<String> {
    match std::env::var_os("SSH_AUTH_SOCK") {
        Some(socket) => ssh::public_keys(Path::new(&socket)).await,
        None => Vec::new(),
    }
}

/// Runs a command, and returns its status.
pub(super) async fn command(
    sandbox: &mut Sandbox,
    command: &GuestCommand,
    local: Local<'_>,
) -> Outcome {
    let line = command.line()?;
    run(sandbox, command.login_user(), line, local).await
}

/// Opens a login shell in the workspace, and returns its status.
pub(super) async fn shell(sandbox: &mut Sandbox, local: Local<'_>) -> Outcome {
    let line = ssh::login_shell(WORKSPACE.as_ref());
    run(sandbox, SHELL_USER, line, local).await
}

async fn run(sandbox: &mut Sandbox, user: &str, line: Vec<u8>, local: Local<'_>) -> Outcome {
    let endpoint = sandbox.ssh_endpoint(user)?;
    let session = async {
        let deadline = Instant::now() + LOGIN_DEADLINE;
        let connection = ssh::Connection::open(&endpoint, deadline).await?;
        let ending = connection
            .execute(line, local.streams, local.pty.as_ref(), local.notices)
            .await?;
        connection.close().await;
        Ok::<Ending, SshError>(ending)
    };
    match session.await {
        Ok(ending) => Ok(ExitStatus(ending.exit_code())),
        Err(error) => Err(explain(sandbox, error).await),
    }
}
