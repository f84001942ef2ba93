//! The supervisor's end of the guest agent's port.
//!
//! One task keeps a conversation with the agent (preamble, then streams) as
//! long as QEMU lives and begins another when one breaks: a guest may kill its
//! agent, which starts anew. Streams are opened by the supervisor itself and
//! by the commands that connect to its [`door`].

mod door;
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

/// Before the first attempt at another conversation.
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// Between two attempts at most; an agent that breaks every conversation costs
/// no more than this.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// How many pauses long an agent may take for its answer, once it has said
/// anything: from two seconds on. A call gets lost if the conversation before
/// swallows it.
const ANSWER_PAUSES: u32 = 40;

/// A conversation that lasted this long was a good one: the next is begun as
/// eagerly as the first.
const CALM: Duration = Duration::from_secs(10);

/// How long a stream may take to be opened while there is no conversation.
const OPEN_DEADLINE: Duration = Duration::from_secs(10);

/// The link to the agent of one sandbox; ends when dropped, and with it every
/// session.
pub(super) struct AgentLink {
    access: Access,
    tasks: [JoinHandle<()>; 2],
}

impl AgentLink {
    /// Begins to call the agent, and opens the door for commands. QEMU listens
    /// already.
    pub(super) fn start(layout: &StateLayout) -> Result<Self, FileError> {
        let (conversation, current) = watch::channel(None);
        let access = Access(current);
        let door = door::open(&layout.agent_socket(), access.clone())?;
        let talk = tokio::spawn(talk(layout.agent_port_socket(), conversation));
        Ok(Self {
            access,
            tasks: [door, talk],
        })
    }

    /// Waits until the agent has answered a preamble. May be cancelled.
    pub(super) async fn answered(&mut self) {
        if self.access.conversation().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Asks the agent and waits for its answer, until `deadline` has passed.
    /// After a [`Request::Quiesce`] the link must be dropped: it would begin
    /// another conversation.
    ///
    /// # Errors
    /// When there is no agent, or it does not answer, or refuses.
    pub(super) async fn ask(
        &self,
        request: Request,
        deadline: Duration,
    ) -> Result<Response, AgentError> {
        self.asker().ask(request, deadline).await
    }

    /// Something that asks beside the link.
    pub(super) fn asker(&self) -> Asker {
        Asker(self.access.clone())
    }
}

/// Asks the agent as long as its link lives.
pub(super) struct Asker(Access);

impl Asker {
    /// As [`AgentLink::ask`].
    pub(super) async fn ask(
        &self,
        request: Request,
        deadline: Duration,
    ) -> Result<Response, AgentError> {
        self.ask_with(|| request, deadline).await
    }

    /// As [`AgentLink::ask`], with a request that is made when it can be sent.
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

/// The conversation of the moment, if there is one.
#[derive(Clone)]
struct Access(watch::Receiver<Option<Opener>>);

impl Access {
    /// Waits for a conversation; an error if there will never be one.
    async fn conversation(&mut self) -> Result<Opener, AgentError> {
        let found = self.0.wait_for(Option::is_some).await;
        let opener = found.ok().and_then(|opener| opener.clone());
        opener.ok_or(AgentError::Absent)
    }

    /// Opens a stream, in the next conversation if there is none.
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

/// Keeps a conversation going. Ends only when none is possible.
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
                tracing::warn!(%reason, "the conversation with the guest agent ended");
                if began.elapsed() >= CALM {
                    pause = FIRST_PAUSE;
                }
            }
            Err(error @ PreambleError::Version { .. }) => {
                tracing::error!(%error, "the guest agent cannot be used");
                return;
            }
            Err(error) => tracing::debug!(%error, "the guest agent did not answer"),
        }
        // Long enough for the agent to notice that this end is closed.
        sleep(pause).await;
        pause = LONGEST_PAUSE.min(pause * 2);
    }
}

/// Calls the agent once. The call lies in QEMU's hands until the guest opens
/// the port, which may take as long as it likes; and an agent that opens it, or
/// begins anew, says so.
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
