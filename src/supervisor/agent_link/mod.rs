//! The supervisor's end of the guest agent's port.
//!
//! One task keeps a conversation with the agent (preamble, then streams) as long as QEMU runs. It
//! starts another one if the conversation breaks, since a guest may kill its agent, which then
//! restarts. The supervisor opens streams for its own requests, and [`agent_socket`] opens one for
//! each command that connects.

mod agent_socket;
#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::rand::{GetRandomFlags, getrandom};
use sandbox_protocol::agent::message::{Request, Response};
use sandbox_protocol::agent::mux::{self, Opener, Stream};
use sandbox_protocol::agent::preamble::{self, Nonce, PreambleError};
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use crate::StateLayout;
use crate::agent::{self, AgentError};
use sandbox_host::files::FileError;

/// The pause before the first attempt at another conversation.
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// The longest pause between two attempts. It bounds the cost of an agent that breaks every
/// conversation.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// How long the agent may take to answer after its first byte, in pauses: two seconds at first. An
/// earlier conversation may have consumed the call.
const ANSWER_PAUSES: u32 = 40;

/// After a conversation of this length, the pause starts again at [`FIRST_PAUSE`].
const STABLE: Duration = Duration::from_secs(10);

/// How long opening a stream may wait for a conversation.
const OPEN_DEADLINE: Duration = Duration::from_secs(10);

/// The link to the agent of one sandbox. Dropping it ends all sessions.
pub(super) struct AgentLink {
    access: Access,
    tasks: [JoinHandle<()>; 2],
}

impl AgentLink {
    /// Starts to call the agent and listens at the agent socket. QEMU must listen already.
    pub(super) fn start(layout: &StateLayout) -> Result<Self, FileError> {
        let (conversation, current) = watch::channel(None);
        let access = Access(current);
        let listening = agent_socket::listen(&layout.agent_socket(), access.clone())?;
        let talk = tokio::spawn(talk(layout.agent_port_socket(), conversation));
        Ok(Self {
            access,
            tasks: [listening, talk],
        })
    }

    /// Waits until the agent has answered a preamble. Safe to cancel.
    pub(super) async fn answered(&mut self) {
        if self.access.conversation().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Sends a request and waits for the answer for at most `deadline`.
    ///
    /// Drop the link after a [`Request::Quiesce`], since it would start another conversation.
    ///
    /// # Errors
    /// Fails if the agent does not run, refuses, or does not answer.
    pub(super) async fn ask(
        &self,
        request: Request,
        deadline: Duration,
    ) -> Result<Response, AgentError> {
        self.asker().ask(request, deadline).await
    }

    /// Returns a handle that sends requests while others use the link.
    pub(super) fn asker(&self) -> Asker {
        Asker(self.access.clone())
    }
}

/// Sends requests to the agent while the link exists.
pub(super) struct Asker(Access);

impl Asker {
    /// Like [`AgentLink::ask`].
    pub(super) async fn ask(
        &self,
        request: Request,
        deadline: Duration,
    ) -> Result<Response, AgentError> {
        self.ask_with(|| request, deadline).await
    }

    /// Like [`AgentLink::ask`], but creates the request when it can be sent.
    pub(super) async fn ask_with(
        &self,
        request: impl FnOnce() -> Request,
        deadline: Duration,
    ) -> Result<Response, AgentError> {
        let asked = async { agent::ask(self.0.open().await?, request()).await };
        timeout(deadline, asked)
            .await
            .unwrap_or(Err(AgentError::Deadline { waited: deadline }))
    }
}

impl Drop for AgentLink {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// The current conversation, if there is one.
#[derive(Clone)]
struct Access(watch::Receiver<Option<Opener>>);

impl Access {
    /// Waits for a conversation. Fails if there can never be one.
    async fn conversation(&mut self) -> Result<Opener, AgentError> {
        let found = self.0.wait_for(Option::is_some).await;
        let opener = found.ok().and_then(|opener| opener.clone());
        opener.ok_or(AgentError::Absent)
    }

    /// Opens a stream. Without a conversation, waits for the next one.
    async fn open(&self) -> Result<Stream, AgentError> {
        let mut access = self.clone();
        let opened = async {
            loop {
                if let Ok(stream) = access.conversation().await?.open().await {
                    return Ok(stream);
                }
                // That conversation has just ended.
                access.0.changed().await.map_err(|_| AgentError::Absent)?;
            }
        };
        timeout(OPEN_DEADLINE, opened)
            .await
            .unwrap_or(Err(AgentError::Absent))
    }
}

/// Keeps a conversation with the agent. Returns only if the agent has another protocol version.
async fn talk(socket: PathBuf, conversation: watch::Sender<Option<Opener>>) {
    let mut pause = FIRST_PAUSE;
    loop {
        match begin(&socket, pause * ANSWER_PAUSES).await {
            Ok(stream) => {
                tracing::info!("the guest agent answered");
                let began = Instant::now();
                let (opener, drive) = mux::host(stream);
                conversation.send_replace(Some(opener));
                let reason = drive.await;
                conversation.send_replace(None);
                tracing::info!(%reason, "the conversation with the guest agent ended");
                if began.elapsed() >= STABLE {
                    pause = FIRST_PAUSE;
                }
            }
            Err(error @ PreambleError::Version { .. }) => {
                tracing::error!(%error, "the guest agent cannot be used");
                return;
            }
            Err(error) => tracing::debug!(%error, "the guest agent did not answer"),
        }
        // The agent needs this time to notice that this end is closed.
        sleep(pause).await;
        pause = LONGEST_PAUSE.min(pause * 2);
    }
}

/// Calls the agent once.
///
/// QEMU holds the call until the guest opens the port, which has no deadline. An agent that opens
/// the port, or restarts, announces itself.
async fn begin(socket: &Path, patience: Duration) -> Result<UnixStream, PreambleError> {
    let mut nonce = Nonce::default();
    getrandom(&mut nonce, GetRandomFlags::empty()).map_err(io::Error::from)?;
    let mut stream = UnixStream::connect(socket).await?;
    stream.write_all(&preamble::encode(&nonce)).await?;
    stream.readable().await?;
    timeout(patience, preamble::answered(&mut stream, &nonce))
        .await
        .unwrap_or(Err(io::Error::from(io::ErrorKind::TimedOut).into()))?;
    Ok(stream)
}
