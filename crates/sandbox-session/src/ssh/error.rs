//! Errors of SSH.

use sandbox_host::hint::Hint;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use thiserror::Error;

use sandbox::CommandError;

use crate::SessionError;
use sandbox_host::printable::sanitize_line;

/// The maximum length of a cause, in characters.
const CAUSE_LIMIT: usize = 200;

/// A cause that may quote the guest, without control characters and shortened.
#[derive(Debug, Error)]
#[error("{0}")]
pub struct Cause(String);

impl Cause {
    /// Returns the text of `error` without control sequences of a terminal.
    pub(crate) fn of(error: &dyn std::fmt::Display) -> Self {
        Self(sanitize_line(error.to_string().as_bytes(), CAUSE_LIMIT))
    }
}

/// Errors of SSH. A failure of the command is not an error.
#[derive(Debug, Error)]
pub enum SshError {
    /// A key file does not contain a key.
    #[error("`{}` does not contain an SSH key", path.display())]
    ParseKey {
        /// The file.
        path: PathBuf,
        /// The parse error.
        #[source]
        source: Cause,
    },
    /// Nobody listens at the address.
    #[error("could not connect to the sandbox's sshd at {address}")]
    Connect {
        /// The forwarded port on the host.
        address: SocketAddr,
        /// The error of the system call.
        #[source]
        source: io::Error,
    },
    /// The connection was not ready in time.
    #[error("the sandbox's sshd at {address} did not answer within {} s", waited.as_secs())]
    ConnectDeadline {
        /// The forwarded port on the host.
        address: SocketAddr,
        /// The duration of the wait.
        waited: Duration,
    },
    /// The peer is not an SSH server, or supports none of our algorithms.
    #[error("could not negotiate an SSH connection to {address}")]
    Handshake {
        /// The forwarded port on the host.
        address: SocketAddr,
        /// The failure of the handshake.
        #[source]
        source: Cause,
    },
    /// The server does not have the host key of this sandbox.
    #[error(
        "the server at {address} is not this sandbox: its host key is `{offered}`, not `{expected}`"
    )]
    HostKeyMismatch {
        /// The forwarded port on the host.
        address: SocketAddr,
        /// Fingerprint of the sandbox's host key.
        expected: String,
        /// Fingerprint of the server's host key.
        offered: String,
    },
    /// The server refused the sandbox's key.
    #[error("the sandbox does not accept its SSH key for user `{user}`")]
    AuthenticationRefused {
        /// The user in the guest.
        user: String,
    },
    /// The connection broke.
    #[error("the connection to the sandbox was lost")]
    ConnectionLost(#[source] Cause),
    /// The server refused a session, a terminal or a command.
    #[error("the sandbox's sshd refused to {action}")]
    RequestRefused {
        /// The refused request.
        action: &'static str,
    },
    /// The server closed the session without an exit status.
    #[error("the command ended without an exit status")]
    NoExitStatus,
    /// The command is too long for the guest's shell.
    #[error("the command has {length} bytes, more than {limit}")]
    CommandTooLong {
        /// The length with all quotes, in bytes.
        length: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// The command is invalid.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// A local stream or terminal failed.
    #[error(transparent)]
    Session(#[from] SessionError),
}

impl SshError {
    /// Returns the next step for the user.
    pub fn hint(&self) -> Option<Hint> {
        Some(match self {
            Self::Session(error) => return error.hint(),
            Self::ParseKey { .. } => Hint::text("run ")
                .command("stop")
                .then(" and start the sandbox again: each start creates new keys"),
            Self::Connect { .. } | Self::ConnectDeadline { .. } | Self::ConnectionLost(_) => {
                Hint::text("run ")
                    .command("list")
                    .then(" to see whether the sandbox is running, or ")
                    .command("logs")
                    .then(" to see its console")
            }
            Self::Handshake { .. } | Self::NoExitStatus => Hint::text("run ")
                .command("logs")
                .then(" to see the console"),
            Self::HostKeyMismatch { .. } => Hint::text("run ").command("stop").then(
                " and start the sandbox again: another program may use the port, or the guest \
                 replaced its host key",
            ),
            Self::AuthenticationRefused { user } => {
                Hint::text("enter with ").command("console").then(format!(
                    ", or restart the sandbox to restore `~{user}/.ssh/authorized_keys`"
                ))
            }
            Self::RequestRefused { .. } => Hint::text("enter with ")
                .command("console")
                .then(": the sandbox may have run out of memory or processes"),
            Self::CommandTooLong { .. } => {
                "put long data into a file in the workspace, or send it through standard input"
                    .into()
            }
            Self::Command(_) => return None,
        })
    }
}
