//! What can go wrong between the host and a guest's sshd.

use sandbox_host::hint::Hint;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use thiserror::Error;

use sandbox::CommandError;

use crate::session::SessionError;
use sandbox_host::printable::sanitize_line;

/// Characters of a foreign message that are shown.
const LONGEST_CAUSE: usize = 200;

/// A cause that may quote the far end: sanitised and short.
#[derive(Debug, Error)]
#[error("{0}")]
pub struct Cause(String);

impl Cause {
    /// The text of `error` without anything that a terminal would obey.
    pub(crate) fn of(error: &dyn std::fmt::Display) -> Self {
        Self(sanitize_line(error.to_string().as_bytes(), LONGEST_CAUSE))
    }
}

/// A failure of SSH, as opposed to one of the command that it runs.
#[derive(Debug, Error)]
pub enum SshError {
    /// A key file does not hold a key.
    #[error("`{}` does not hold an SSH key", path.display())]
    ParseKey {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: Cause,
    },
    /// Nobody listens at the address.
    #[error("the sandbox's sshd at {address} cannot be reached")]
    Connect {
        /// The forwarded port on the host.
        address: SocketAddr,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// The connection was not ready in time.
    #[error("the sandbox's sshd at {address} did not answer within {} s", waited.as_secs())]
    ConnectDeadline {
        /// The forwarded port on the host.
        address: SocketAddr,
        /// How long was waited.
        waited: Duration,
    },
    /// The peer is no SSH server that we can talk to.
    #[error("no SSH connection to {address} could be agreed on")]
    Handshake {
        /// The forwarded port on the host.
        address: SocketAddr,
        /// What failed.
        #[source]
        source: Cause,
    },
    /// The server has another host key than the one made for this sandbox.
    #[error(
        "the server at {address} is not this sandbox: its host key is `{offered}`, not `{expected}`"
    )]
    HostKeyMismatch {
        /// The forwarded port on the host.
        address: SocketAddr,
        /// Fingerprint of the key that the sandbox was given.
        expected: String,
        /// Fingerprint of the key that the server showed.
        offered: String,
    },
    /// The server does not let the user in with the sandbox's key.
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
        /// What was asked for.
        action: &'static str,
    },
    /// The server ended the session without telling how the command ended.
    #[error("the command ended without an exit status")]
    NoExitStatus,
    /// The command cannot be handed to a guest's shell.
    #[error("the command is {length} bytes long, more than the {limit} bytes that Linux passes on")]
    CommandTooLong {
        /// Its length with all quotes.
        length: usize,
        /// The most that works.
        limit: usize,
    },
    /// What was given is no command.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// What is connected to the command here failed.
    #[error(transparent)]
    Session(#[from] SessionError),
}

impl SshError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<Hint> {
        Some(match self {
            Self::Session(error) => return error.hint(),
            Self::ParseKey { .. } => {
                "stop the sandbox (`sandbox stop`) and start it again: every start makes new keys"
                    .into()
            }
            Self::Connect { .. } | Self::ConnectDeadline { .. } | Self::ConnectionLost(_) => {
                "`sandbox list` tells whether the sandbox still runs, `sandbox logs` what its console says"
                    .into()
            }
            Self::Handshake { .. } | Self::NoExitStatus => {
                "`sandbox logs` shows what the sandbox's console says".into()
            }
            Self::HostKeyMismatch { .. } => {
                "another program may have taken the port, or the sandbox replaced its host key: stop it (`sandbox stop`) and start it again"
                    .into()
            }
            Self::AuthenticationRefused { user } => format!(
                "the sandbox may have changed `~{user}/.ssh/authorized_keys`: `sandbox console` still gets in, and a restart puts the key back"
            ).into(),
            Self::RequestRefused { .. } => {
                "the sandbox may have run out of memory or processes: `sandbox console` still gets in"
                    .into()
            }
            Self::CommandTooLong { .. } => {
                "put long data into a file in the workspace or send it through standard input".into()
            }
            Self::Command(_) => return None,
        })
    }
}
