//! The start of a program over a stream to the agent.

use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::time::Duration;

use sandbox_protocol::agent::frame::{GuestFrame, HOST_FRAME_LIMIT, HostFrame};
use sandbox_protocol::agent::message::{Execute, Program, Refusal, Request, Response};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::child::Child;
use crate::agent::{AgentError, FromAgent, ToAgent};

/// How long the agent may take to start a program. An emulated guest under load has taken seconds.
const START_DEADLINE: Duration = Duration::from_secs(60);

/// A stream to the agent through the supervisor.
#[derive(Debug)]
pub struct Connection(UnixStream);

impl From<UnixStream> for Connection {
    fn from(stream: UnixStream) -> Self {
        Self(stream)
    }
}

impl Connection {
    /// Connects to the supervisor's socket.
    ///
    /// # Errors
    /// Fails if no supervisor listens there.
    pub async fn open(socket: &Path) -> Result<Self, AgentError> {
        let connected = UnixStream::connect(socket).await;
        connected.map(Self).map_err(|source| AgentError::Connect {
            socket: socket.into(),
            source,
        })
    }

    /// Starts a program. [`Child::wait`] kills it after `limit`.
    ///
    /// # Errors
    /// Fails if the program cannot be started, or if the stream fails.
    pub async fn start(
        self,
        execute: Execute,
        limit: Option<Duration>,
    ) -> Result<Child, AgentError> {
        let request = HostFrame::Request(Request::Execute(execute.clone()));
        let length = request.encode().len();
        if length > HOST_FRAME_LIMIT {
            return Err(AgentError::CommandTooLong {
                length,
                limit: HOST_FRAME_LIMIT,
            });
        }
        let (reader, writer) = self.0.into_split();
        let mut frames = FromAgent::new(reader);
        let mut to_agent = ToAgent::new(writer);
        let answer = async {
            // If sending fails, reading returns the reason.
            let _ = to_agent.send(&request).await;
            frames.next().await
        };
        let answer = timeout(START_DEADLINE, answer)
            .await
            .map_err(|_| AgentError::Deadline {
                waited: START_DEADLINE,
            })?;
        match answer? {
            GuestFrame::Response(Response::Started) => Ok(Child::new(frames, to_agent, limit)),
            GuestFrame::Response(Response::Refused(refusal)) => Err(not_started(&execute, refusal)),
            _ => Err(AgentError::Unexpected),
        }
    }
}

/// Returns the error for a refusal, with the values of the request.
fn not_started(execute: &Execute, refusal: Refusal) -> AgentError {
    let program = || match &execute.program {
        Program::Words(words) => words.first().cloned().unwrap_or_default(),
        Program::LoginShell => b"login shell".to_vec(),
    };
    let text = |bytes: Vec<u8>| std::ffi::OsString::from_vec(bytes);
    match refusal {
        Refusal::NotFound => AgentError::NoProgram {
            program: text(program()),
        },
        Refusal::NotExecutable(number) => AgentError::NotExecutable {
            program: text(program()),
            source: io::Error::from_raw_os_error(number),
        },
        Refusal::NoUser => AgentError::NoUser {
            user: execute.user.clone(),
        },
        Refusal::Directory(number) => AgentError::Directory {
            directory: text(execute.directory.clone().unwrap_or_default()).into(),
            source: io::Error::from_raw_os_error(number),
        },
        Refusal::Failed(_) => AgentError::refused(refusal),
    }
}
