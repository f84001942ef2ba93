//! The listener of the agent socket, through which commands reach the guest agent.
//!
//! Each connection becomes one stream of the conversation with the agent. Its bytes pass unchanged.
//! The directory has mode 0700, so only the user's own processes can connect.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::SinkExt;
use sandbox_protocol::agent::frame::{GuestFrame, guest_codec};
use sandbox_protocol::agent::message::{Refusal, Response};
use sandbox_protocol::agent::mux;
use tokio::io::{AsyncWriteExt, copy};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};
use tokio_util::codec::FramedWrite;

use super::Access;
use sandbox_host::files::FileError;

/// The maximum number of concurrent sessions.
///
/// yamux counts a stream until the guest has closed it, and ends a conversation that exceeds its
/// limit. So this is half of that limit.
pub(super) const SESSION_LIMIT: usize = mux::STREAM_LIMIT / 2;

/// How long the guest may take to close a stream after the command has closed it.
const CLOSE_GRACE: Duration = Duration::from_secs(10);

/// The pause after a failed accept, which usually means that descriptors are short.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Listens at `socket` and forwards its connections to the agent.
pub(super) fn listen(socket: &Path, access: Access) -> Result<JoinHandle<()>, FileError> {
    let listener = UnixListener::bind(socket).map_err(FileError::new("listen at", socket))?;
    std::fs::set_permissions(socket, Permissions::from_mode(0o600))
        .map_err(FileError::new("restrict", socket))?;
    Ok(tokio::spawn(accept(listener, access)))
}

async fn accept(listener: UnixListener, access: Access) {
    let places = Arc::new(Semaphore::new(SESSION_LIMIT));
    let mut sessions = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = sessions.join_next(), if !sessions.is_empty() => continue,
        };
        match (accepted, Arc::clone(&places).try_acquire_owned()) {
            (Ok((command, _)), Ok(place)) => {
                let access = access.clone();
                sessions.spawn(async move {
                    forward(command, access).await;
                    drop(place);
                });
            }
            (Ok((command, _)), Err(_)) => {
                let reason = format!("{SESSION_LIMIT} commands are already running in it");
                refuse(command, reason).await;
            }
            (Err(error), _) => {
                tracing::warn!(%error, "could not accept a command's connection");
                sleep(ACCEPT_RETRY).await;
            }
        }
    }
}

/// Refuses a command in place of the agent.
async fn refuse(command: UnixStream, reason: String) {
    let refusal = GuestFrame::Response(Response::Refused(Refusal::Failed(reason)));
    // The buffer of a new connection holds the whole refusal, so this does not block.
    let _ = FramedWrite::new(command, guest_codec())
        .send(refusal.encode())
        .await;
}

async fn forward(command: UnixStream, access: Access) {
    match access.open().await {
        Ok(stream) => splice(command, stream).await,
        Err(error) => refuse(command, error.to_string()).await,
    }
}

/// Copies both ways until the guest closes the stream.
///
/// If the command closes first, the guest has a short time to send its remaining output.
async fn splice(command: UnixStream, stream: mux::Stream) {
    let (mut from_command, mut to_command) = command.into_split();
    let (mut from_guest, mut to_guest) = tokio::io::split(stream);
    // An error of one direction ends it. The other side only sees the end.
    let up = async {
        let _ = copy(&mut from_command, &mut to_guest).await;
        let _ = to_guest.shutdown().await;
    };
    let down = async {
        let _ = copy(&mut from_guest, &mut to_command).await;
        let _ = to_command.shutdown().await;
    };
    tokio::pin!(down);
    tokio::select! {
        () = &mut down => return,
        () = up => {}
    }
    drop(timeout(CLOSE_GRACE, down).await);
}
