//! What can go wrong between the host and the guest agent.

use sandbox_host::hint::Hint;
use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use sandbox_protocol::agent::frame::FrameError;
use sandbox_protocol::agent::message::Refusal;
use thiserror::Error;

use sandbox_host::printable::sanitize_line;

/// Characters of the agent's own words that are shown.
const LONGEST_REASON: usize = 200;

/// A failure of the guest agent, as opposed to one of what it runs.
#[derive(Debug, Error)]
pub enum AgentError {
    /// The supervisor cannot be reached.
    #[error("could not connect to the supervisor at `{}`", socket.display())]
    Connect {
        /// Where it listens.
        socket: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// There is no conversation with the agent.
    #[error("the sandbox's guest agent is not there")]
    Absent,
    /// The agent did not answer.
    #[error("the sandbox's guest agent did not answer within {} s", waited.as_secs())]
    Deadline {
        /// How long was waited.
        waited: Duration,
    },
    /// The stream ended before its answer did.
    #[error("the connection to the sandbox was lost")]
    Lost(#[source] Option<io::Error>),
    /// The agent sent bytes that mean nothing.
    #[error("the sandbox's guest agent sent something that is no answer")]
    Frame(#[from] FrameError),
    /// The agent sent a longer frame than any answer is.
    #[error("the sandbox's guest agent sent an answer that is too long")]
    TooLong(#[source] io::Error),
    /// The agent sent something that is no answer to what was asked.
    #[error("the sandbox's guest agent answered another question")]
    Unexpected,
    /// The agent did not do it.
    #[error("the sandbox refused: {reason}")]
    Refused {
        /// Why, in its own words, sanitised.
        reason: String,
    },
    /// There is no such program in the guest.
    #[error("there is no program `{}` in the sandbox", program.display())]
    NoProgram {
        /// What was to run.
        program: OsString,
    },
    /// The program in the guest is none, or the user may not execute it.
    #[error("the program `{}` in the sandbox cannot be executed", program.display())]
    NotExecutable {
        /// What was to run.
        program: OsString,
        /// The guest's answer.
        #[source]
        source: io::Error,
    },
    /// There is no such user in the guest.
    #[error("there is no user `{user}` in the sandbox")]
    NoUser {
        /// Who was to run it.
        user: String,
    },
    /// The directory in the guest cannot be entered.
    #[error("cannot enter the directory `{}` in the sandbox", directory.display())]
    Directory {
        /// Where the command was to start.
        directory: PathBuf,
        /// The guest's answer.
        #[source]
        source: io::Error,
    },
    /// The command cannot be handed to the agent.
    #[error("the command is {length} bytes long, more than the {limit} bytes that Linux passes on")]
    CommandTooLong {
        /// Its length.
        length: usize,
        /// The most that works.
        limit: usize,
    },
}

impl AgentError {
    /// A refusal of something that names neither program nor user nor directory.
    pub(crate) fn refused(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Failed(reason) => Self::Refused {
                reason: sanitize_line(reason.as_bytes(), LONGEST_REASON),
            },
            _ => Self::Unexpected,
        }
    }

    /// Whether the end of the sandbox would explain it.
    pub fn is_loss(&self) -> bool {
        matches!(self, Self::Connect { .. } | Self::Absent | Self::Lost(_))
    }

    /// What the user can do about it.
    pub fn hint(&self) -> Option<Hint> {
        Some(match self {
            Self::Connect { .. } | Self::Lost(_) => {
                "`sandbox list` tells whether the sandbox still runs, `sandbox logs` what its console says"
                    .into()
            }
            Self::Absent | Self::Deadline { .. } | Self::Refused { .. } => {
                "the sandbox may have run out of memory or processes: `sandbox ssh` and `sandbox console` may still get in"
                    .into()
            }
            Self::Frame(_) | Self::TooLong(_) | Self::Unexpected => {
                "something in the sandbox plays the agent's part: stop it (`sandbox stop`) and start it again"
                    .into()
            }
            Self::NoProgram { program } if program.to_string_lossy().contains(' ') => {
                "a line with several words needs a shell: `sandbox exec -- sh -c 'first; second'`"
                    .into()
            }
            Self::CommandTooLong { .. } => {
                "put long data into a file in the workspace or send it through standard input".into()
            }
            Self::NoProgram { .. }
            | Self::NotExecutable { .. }
            | Self::NoUser { .. }
            | Self::Directory { .. } => return None,
        })
    }
}
