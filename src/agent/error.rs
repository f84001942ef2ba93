//! Failures between the host and the guest agent.

use sandbox_host::hint::Hint;
use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use sandbox_protocol::agent::frame::FrameError;
use sandbox_protocol::agent::message::Refusal;
use thiserror::Error;

use sandbox_host::printable::sanitize_line;

/// The maximum length of the agent's reason, in characters.
const LONGEST_REASON: usize = 200;

/// A failure of the guest agent, not of the program that it runs.
#[derive(Debug, Error)]
pub enum AgentError {
    /// The supervisor cannot be reached.
    #[error("could not connect to the supervisor at `{}`", socket.display())]
    Connect {
        /// The supervisor's socket.
        socket: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The supervisor has no conversation with the agent.
    #[error("the sandbox's guest agent is not running")]
    Absent,
    /// The agent did not answer.
    #[error("the sandbox's guest agent did not answer within {} s", waited.as_secs())]
    Deadline {
        /// The time that the host waited.
        waited: Duration,
    },
    /// The stream ended before the answer.
    #[error("the connection to the sandbox was lost")]
    Lost(#[source] Option<io::Error>),
    /// The agent sent an invalid frame.
    #[error("the sandbox's guest agent sent an invalid answer")]
    Frame(#[from] FrameError),
    /// The agent sent a frame that exceeds the limit.
    #[error("the sandbox's guest agent sent an answer that is too long")]
    TooLong(#[source] io::Error),
    /// The agent's answer does not belong to the request.
    #[error("the sandbox's guest agent sent an unexpected answer")]
    Unexpected,
    /// The agent refused the request.
    #[error("the sandbox refused: {reason}")]
    Refused {
        /// The agent's reason, without control characters.
        reason: String,
    },
    /// The guest does not have the program.
    #[error("program `{}` not found in the sandbox", program.display())]
    NoProgram {
        /// The program.
        program: OsString,
    },
    /// The file is not a program, or the user may not execute it.
    #[error("could not execute the program `{}` in the sandbox", program.display())]
    NotExecutable {
        /// The program.
        program: OsString,
        /// The guest's error.
        #[source]
        source: io::Error,
    },
    /// The guest does not have the user.
    #[error("user `{user}` not found in the sandbox")]
    NoUser {
        /// The user.
        user: String,
    },
    /// The directory in the guest cannot be entered.
    #[error("could not enter the directory `{}` in the sandbox", directory.display())]
    Directory {
        /// The directory.
        directory: PathBuf,
        /// The guest's error.
        #[source]
        source: io::Error,
    },
    /// The command is too long for the agent.
    #[error("the command has {length} bytes, more than {limit}")]
    CommandTooLong {
        /// The command's length, in bytes.
        length: usize,
        /// The limit, in bytes.
        limit: usize,
    },
}

impl AgentError {
    /// Returns the error for a refusal that names neither a program, a user nor a directory.
    pub(crate) fn refused(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Failed(reason) => Self::Refused {
                reason: sanitize_line(reason.as_bytes(), LONGEST_REASON),
            },
            _ => Self::Unexpected,
        }
    }

    /// Returns whether the end of the sandbox would explain the failure.
    pub fn is_loss(&self) -> bool {
        matches!(self, Self::Connect { .. } | Self::Absent | Self::Lost(_))
    }

    /// Returns the next step for the user.
    pub fn hint(&self) -> Option<Hint> {
        Some(match self {
            Self::Connect { .. } | Self::Lost(_) => Hint::text("run ")
                .command("list")
                .then(" to see whether the sandbox is running, or ")
                .command("logs")
                .then(" to see its console"),
            Self::Absent | Self::Deadline { .. } | Self::Refused { .. } => {
                Hint::text("enter with ")
                    .command("ssh")
                    .then(" or ")
                    .command("console")
                    .then(": the sandbox may have run out of memory or processes")
            }
            Self::Frame(_) | Self::TooLong(_) | Self::Unexpected => {
                Hint::text("run ").command("stop").then(
                    " and start the sandbox again: another process may be impersonating the agent",
                )
            }
            Self::NoProgram { program } if program.to_string_lossy().contains(' ') => {
                Hint::text("run a command line with a shell: ")
                    .command("exec -- sh -c 'first; second'")
            }
            Self::CommandTooLong { .. } => {
                "put long data into a file in the workspace or send it through standard input"
                    .into()
            }
            Self::NoProgram { .. }
            | Self::NotExecutable { .. }
            | Self::NoUser { .. }
            | Self::Directory { .. } => return None,
        })
    }
}
