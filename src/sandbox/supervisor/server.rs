//! The server side of the control socket.

use std::io;
use std::os::unix::net::UnixListener as StdListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::OwnedWriteHalf;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};

use super::hub::Hub;
use crate::sandbox::control::Request;
use crate::sandbox::{Event, Lifetime};

/// A wish that the sandbox should end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StopRequest {
    /// Somebody asked; the guest has this long to power itself down.
    Asked(Duration),
    /// The command that an attached sandbox belongs to is gone.
    Abandoned,
}

/// The running server.
pub(super) struct Server {
    accepting: JoinHandle<()>,
    open: Arc<AtomicUsize>,
}

/// After the last event, how long slow readers have to take it.
const FAREWELL: Duration = Duration::from_secs(2);

pub(super) fn start(
    listener: StdListener,
    hub: Hub,
    stop: mpsc::Sender<StopRequest>,
    lifetime: Lifetime,
) -> io::Result<Server> {
    listener.set_nonblocking(true)?;
    let listener = UnixListener::from_std(listener)?;
    let open = Arc::new(AtomicUsize::new(0));
    let counter = open.clone();
    let accepting = tokio::spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => {
                        counter.fetch_add(1, Ordering::Relaxed);
                        let (hub, stop, counter) = (hub.clone(), stop.clone(), counter.clone());
                        connections.spawn(async move {
                            if let Err(error) = serve(stream, hub, stop, lifetime).await {
                                tracing::debug!(%error, "a client went away");
                            }
                            counter.fetch_sub(1, Ordering::Relaxed);
                        });
                    }
                    Err(error) => {
                        // Descriptors are short for a moment: not a reason to
                        // abandon the guest.
                        tracing::warn!(%error, "a client could not be accepted");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                },
                Some(_) = connections.join_next(), if !connections.is_empty() => {}
            }
        }
    });
    Ok(Server { accepting, open })
}

impl Server {
    /// Waits until every client has taken the last event, or for a short time.
    pub(super) async fn finish(self) {
        let everyone_gone = async {
            while self.open.load(Ordering::Relaxed) > 0 {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        drop(tokio::time::timeout(FAREWELL, everyone_gone).await);
        self.accepting.abort();
    }
}

async fn serve(
    stream: UnixStream,
    hub: Hub,
    stop: mpsc::Sender<StopRequest>,
    lifetime: Lifetime,
) -> io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut requests = BufReader::new(reader).lines();
    let mut holds = false;
    let telling = tell(&hub, &mut writer);
    tokio::pin!(telling);
    let result = loop {
        tokio::select! {
            line = requests.next_line() => match line {
                Ok(Some(line)) => match serde_json::from_str(&line) {
                    Ok(Request::Subscribe) => {}
                    Ok(Request::Hold) => holds = true,
                    Ok(Request::Stop { grace_ms }) => {
                        let grace = Duration::from_millis(grace_ms);
                        let _ = stop.send(StopRequest::Asked(grace)).await;
                    }
                    Err(error) => break Err(error.into()),
                },
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            },
            told = &mut telling => break told,
        }
    };
    if holds && lifetime == Lifetime::Attached {
        let _ = stop.send(StopRequest::Abandoned).await;
    }
    result
}

/// Writes every event until the last one.
async fn tell(hub: &Hub, writer: &mut OwnedWriteHalf) -> io::Result<()> {
    let mut listener = hub.listen();
    loop {
        let event = listener.next().await;
        let mut line = serde_json::to_string(&event)?;
        line.push('\n');
        writer.write_all(line.as_bytes()).await?;
        if matches!(event.event, Event::Ended { .. }) {
            return Ok(());
        }
    }
}
