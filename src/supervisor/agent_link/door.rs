//! Where commands enter: each connection is passed on as a stream of the
//! conversation with the agent, byte by byte.
//!
//! Only the user's own processes reach it (the directory is 0700).

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

/// How many commands may be inside at once. Streams that a command has left
/// count for yamux until the guest has closed them, too, and a conversation
/// with more streams than its limit ends; so this is half of that.
pub(super) const SESSION_LIMIT: usize = mux::STREAM_LIMIT / 2;

/// How long the guest may take to close a stream that the command has left.
const FAREWELL: Duration = Duration::from_secs(10);

/// After a connection could not be accepted: descriptors are short for a
/// moment.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Listens at `socket`, and passes everyone on who comes.
pub(super) fn open(socket: &Path, access: Access) -> Result<JoinHandle<()>, FileError> {
    let listener = UnixListener::bind(socket).map_err(FileError::new("listen at", socket))?;
    std::fs::set_permissions(socket, Permissions::from_mode(0o600))
        .map_err(FileError::new("restrict", socket))?;
    Ok(tokio::spawn(admit(listener, access)))
}

async fn admit(listener: UnixListener, access: Access) {
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
                    pass_on(command, access).await;
                    drop(place);
                });
            }
            (Ok((command, _)), Err(_)) => {
                let reason = format!("{SESSION_LIMIT} commands run in it already");
                refuse(command, reason).await;
            }
            (Err(error), _) => {
                tracing::warn!(%error, "a command could not be accepted");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Answers in the agent's place.
async fn refuse(command: UnixStream, reason: String) {
    let refusal = GuestFrame::Response(Response::Refused(Refusal::Failed(reason)));
    // A new connection takes this much at once, or its other end is gone.
    let _ = FramedWrite::new(command, guest_codec())
        .send(refusal.encode())
        .await;
}

async fn pass_on(command: UnixStream, access: Access) {
    match access.open().await {
        Ok(stream) => splice(command, stream).await,
        Err(error) => refuse(command, error.to_string()).await,
    }
}

/// Copies both ways. The guest's end of the stream is the end of the session;
/// the command's is passed on, and the guest has a short time for its last
/// words.
async fn splice(command: UnixStream, stream: mux::Stream) {
    let (mut from_command, mut to_command) = command.into_split();
    let (mut from_guest, mut to_guest) = tokio::io::split(stream);
    // Whichever way breaks, its end is all that can be passed on.
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
    drop(timeout(FAREWELL, down).await);
}
