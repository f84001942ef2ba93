//! The server of the control socket.

use std::io;
use std::os::unix::net::UnixListener as StdListener;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::{OwnedWriteHalf, SocketAddr};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinHandle, JoinSet};

use super::event_log::EventLog;
use crate::Lifetime;
use sandbox_gateway::request::GatewayRequest;
use sandbox_protocol::control::{Request, read_request};
use sandbox_protocol::gateway::{GatewayCommand, GatewayReply};
use sandbox_protocol::{Event, TimedEvent};

/// A request to end the sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StopRequest {
    /// A client asked for a stop. The guest has this long to power itself down.
    Asked(Duration),
    /// A client discarded the sandbox. The guest only flushes its shares.
    Discarded,
    /// The command that an attached sandbox belongs to has ended.
    Abandoned,
}

/// The receivers of requests.
#[derive(Debug, Clone)]
pub(super) struct Recipients {
    pub(super) stop: mpsc::Sender<StopRequest>,
    pub(super) gateway: mpsc::Sender<GatewayRequest>,
}

/// The running server.
pub(super) struct Server {
    accepting: JoinHandle<()>,
    closing: oneshot::Sender<()>,
}

/// How long the server accepts late clients after the last event.
const LATE_CLIENTS: Duration = Duration::from_millis(10);

/// How long slow clients may take to read the last event.
const DRAIN_GRACE: Duration = Duration::from_secs(2);

pub(super) fn start(
    listener: StdListener,
    event_log: EventLog,
    recipients: Recipients,
    lifetime: Lifetime,
) -> io::Result<Server> {
    listener.set_nonblocking(true)?;
    let listener = UnixListener::from_std(listener)?;
    let (closing, closed) = oneshot::channel();
    let clients = Clients {
        event_log,
        recipients,
        lifetime,
        connections: JoinSet::new(),
    };
    Ok(Server {
        accepting: tokio::spawn(clients.accept_until(listener, closed)),
        closing,
    })
}

impl Server {
    /// Waits until every client has read the last event, at most [`DRAIN_GRACE`].
    pub(super) async fn finish(self) {
        let _ = self.closing.send(());
        drop(tokio::time::timeout(DRAIN_GRACE, self.accepting).await);
    }
}

/// The connected clients.
struct Clients {
    event_log: EventLog,
    recipients: Recipients,
    lifetime: Lifetime,
    connections: JoinSet<()>,
}

impl Clients {
    async fn accept_until(mut self, listener: UnixListener, mut closed: oneshot::Receiver<()>) {
        loop {
            tokio::select! {
                accepted = listener.accept() => self.serve_client(accepted).await,
                Some(_) = self.connections.join_next(), if !self.connections.is_empty() => {}
                _ = &mut closed => break,
            }
        }
        while let Ok(accepted) = tokio::time::timeout(LATE_CLIENTS, listener.accept()).await {
            self.serve_client(accepted).await;
        }
        while self.connections.join_next().await.is_some() {}
    }

    async fn serve_client(&mut self, accepted: io::Result<(UnixStream, SocketAddr)>) {
        match accepted {
            Ok((stream, _)) => {
                let (event_log, recipients) = (self.event_log.clone(), self.recipients.clone());
                let lifetime = self.lifetime;
                self.connections.spawn(async move {
                    if let Err(error) = serve(stream, event_log, recipients, lifetime).await {
                        tracing::debug!(%error, "a client disconnected");
                    }
                });
            }
            Err(error) => {
                // Usually descriptors are short for a moment. The guest keeps running.
                tracing::warn!(%error, "could not accept a client");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn serve(
    stream: UnixStream,
    event_log: EventLog,
    Recipients { stop, gateway }: Recipients,
    lifetime: Lifetime,
) -> io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut requests = BufReader::new(reader).lines();
    let mut holds = false;
    // The first request comes before the first event.
    let Some(first) = requests.next_line().await? else {
        return Ok(());
    };
    match read_request(&first) {
        Ok(Request::Gateway { command }) => return answer(command, &gateway, &mut writer).await,
        Ok(request) => holds |= execute(request, &stop).await?,
        Err(message) => return refuse(message, &mut writer).await,
    }
    let sending = send_events(&event_log, &mut writer);
    tokio::pin!(sending);
    let result = loop {
        tokio::select! {
            line = requests.next_line() => match line {
                Ok(Some(line)) => match read_request(&line) {
                    Ok(request) => holds |= execute(request, &stop).await?,
                    // Events are being written. The connection only ends.
                    Err(message) => break Err(io::Error::new(io::ErrorKind::InvalidInput, message)),
                },
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            },
            sent = &mut sending => {
                sent?;
                // Closing a socket with unread requests resets the connection, and the client could
                // lose events.
                while requests.next_line().await?.is_some() {}
                return Ok(());
            }
        }
    };
    if holds && lifetime == Lifetime::Attached {
        let _ = stop.send(StopRequest::Abandoned).await;
    }
    result
}

/// Executes a request. Returns whether the client holds the sandbox.
async fn execute(request: Request, stop: &mpsc::Sender<StopRequest>) -> io::Result<bool> {
    match request {
        Request::Subscribe => Ok(false),
        Request::Hold => Ok(true),
        Request::Stop { grace_ms } => {
            let grace = Duration::from_millis(grace_ms);
            let _ = stop.send(StopRequest::Asked(grace)).await;
            Ok(false)
        }
        Request::Discard => {
            let _ = stop.send(StopRequest::Discarded).await;
            Ok(false)
        }
        // A reply of the gateway would come between events.
        _ => Err(io::ErrorKind::InvalidInput.into()),
    }
}

/// Forwards a command to the gateway and writes its answer.
async fn answer(
    command: GatewayCommand,
    gateway: &mpsc::Sender<GatewayRequest>,
    writer: &mut OwnedWriteHalf,
) -> io::Result<()> {
    let (reply, answered) = oneshot::channel();
    // If the gateway cannot receive a command, the send drops its `reply`, and so refuses it.
    drop(gateway.send(GatewayRequest { command, reply }).await);
    let answer = match answered.await {
        Ok(answer) => answer,
        Err(_) => GatewayReply::Refused {
            message: "the sandbox's network is not running".into(),
            hint: Some("try again once the sandbox is ready".into()),
        },
    };
    let mut line = serde_json::to_string(&answer)?;
    line.push('\n');
    writer.write_all(line.as_bytes()).await?;
    writer.shutdown().await
}

/// Says why the first request of a connection is not carried out.
async fn refuse(message: String, writer: &mut OwnedWriteHalf) -> io::Result<()> {
    tracing::warn!(message, "a request was refused");
    let event = TimedEvent {
        elapsed_us: 0,
        event: Event::Refused { message },
    };
    let mut line = serde_json::to_string(&event)?;
    line.push('\n');
    writer.write_all(line.as_bytes()).await?;
    writer.shutdown().await
}

/// Writes all events, up to the last one.
async fn send_events(event_log: &EventLog, writer: &mut OwnedWriteHalf) -> io::Result<()> {
    let mut subscription = event_log.subscribe();
    loop {
        let event = subscription.next().await;
        let mut line = serde_json::to_string(&event)?;
        line.push('\n');
        writer.write_all(line.as_bytes()).await?;
        if matches!(event.event, Event::Ended { .. }) {
            return writer.shutdown().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sandbox_protocol::EndReason;
    use sandbox_protocol::control::{Connection, ask_gateway};

    /// Starts a server whose client connected first, like the command that starts a supervisor.
    async fn served(
        lifetime: Lifetime,
        request: Request,
    ) -> (
        Server,
        EventLog,
        mpsc::Receiver<StopRequest>,
        Connection,
        tempfile::TempDir,
    ) {
        let (gateway, _) = mpsc::channel(1);
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("control.sock");
        let listener = StdListener::bind(&socket).unwrap();
        let connection = Connection::open(&socket, request).await.unwrap();
        let event_log = EventLog::default();
        let (stop, receiver) = mpsc::channel(4);
        let recipients = Recipients { stop, gateway };
        let server = start(listener, event_log.clone(), recipients, lifetime).unwrap();
        (server, event_log, receiver, connection, directory)
    }

    #[tokio::test]
    async fn server_delivers_all_events_of_an_early_failure() {
        let (server, event_log, _stop, mut connection, _directory) =
            served(Lifetime::Persistent, Request::Hold).await;
        event_log.append(Event::Preparing);
        event_log.append(Event::Ended {
            reason: EndReason::Failed,
        });
        let finished = tokio::spawn(server.finish());
        assert_eq!(
            connection.next_event().await.unwrap().unwrap().event,
            Event::Preparing
        );
        assert!(matches!(
            connection.next_event().await.unwrap().unwrap().event,
            Event::Ended { .. }
        ));
        assert!(connection.next_event().await.unwrap().is_none());
        drop(connection);
        finished.await.unwrap();
    }

    #[tokio::test]
    async fn attached_sandbox_ends_with_its_holding_connection() {
        for (lifetime, request, expected) in [
            (
                Lifetime::Attached,
                Request::Hold,
                Some(StopRequest::Abandoned),
            ),
            (Lifetime::Attached, Request::Subscribe, None),
            (Lifetime::Persistent, Request::Hold, None),
        ] {
            let (server, event_log, mut stop, mut connection, _directory) =
                served(lifetime, request).await;
            // The server must have served the connection before its end counts.
            event_log.append(Event::Preparing);
            connection.next_event().await.unwrap();
            drop(connection);
            if let Some(expected) = expected {
                assert_eq!(stop.recv().await, Some(expected));
            }
            event_log.append(Event::Ended {
                reason: EndReason::Stopped,
            });
            // Afterwards, the server has served every client.
            server.finish().await;
            assert_eq!(stop.try_recv().ok(), None, "{lifetime:?} {expected:?}");
        }
    }

    #[tokio::test]
    async fn stop_requests_are_forwarded() {
        for (request, expected) in [
            (
                Request::stop(Duration::from_millis(1500)),
                StopRequest::Asked(Duration::from_millis(1500)),
            ),
            (Request::Discard, StopRequest::Discarded),
        ] {
            let (_server, _hub, mut stop, _connection, _directory) =
                served(Lifetime::Persistent, request).await;
            assert_eq!(stop.recv().await, Some(expected));
        }
    }

    #[tokio::test]
    async fn gateway_requests_return_the_gateways_answer() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("control.sock");
        let listener = StdListener::bind(&socket).unwrap();
        let (stop, _stop_requests) = mpsc::channel(1);
        let (gateway, mut requests) = mpsc::channel(1);
        let recipients = Recipients { stop, gateway };
        let server = start(
            listener,
            EventLog::default(),
            recipients,
            Lifetime::Persistent,
        )
        .unwrap();
        let asked = GatewayCommand::AllowOnce {
            pattern: ".example.com".parse().unwrap(),
        };
        let ports = vec!["8080:80".parse().unwrap()];
        let gateway = async {
            let GatewayRequest { command, reply } = requests.recv().await.unwrap();
            assert_eq!(command, asked);
            let ports = ports.clone();
            reply.send(GatewayReply::Ports { ports }).unwrap();
        };
        let (answer, ()) = tokio::join!(ask_gateway(&socket, asked.clone()), gateway);
        assert_eq!(answer.unwrap(), GatewayReply::Ports { ports });
        // The server refuses a request if the gateway does not run or does not answer.
        let silent = async { drop(requests.recv().await.unwrap()) };
        let (answer, ()) = tokio::join!(ask_gateway(&socket, GatewayCommand::Cut), silent);
        assert!(matches!(answer.unwrap(), GatewayReply::Refused { .. }));
        drop(requests);
        let answer = ask_gateway(&socket, GatewayCommand::PortList).await;
        assert!(matches!(answer.unwrap(), GatewayReply::Refused { .. }));
        drop(server);
    }

    #[tokio::test]
    async fn request_of_another_version_is_refused_with_its_reason() {
        use tokio::io::AsyncReadExt;
        let (_server, _event_log, mut stop, _connection, directory) =
            served(Lifetime::Attached, Request::Subscribe).await;
        for (request, reason) in [
            (r#"{"version":2,"request":"hold"}"#, "has version 2"),
            (r#"{"version":1,"request":"fly"}"#, "unknown request"),
            ("no JSON", "unknown request"),
        ] {
            let socket = directory.path().join("control.sock");
            let mut stream = UnixStream::connect(socket).await.unwrap();
            stream
                .write_all(format!("{request}\n").as_bytes())
                .await
                .unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            let event: TimedEvent = serde_json::from_str(&answer).unwrap();
            let Event::Refused { message } = event.event else {
                panic!("{answer}");
            };
            assert!(message.contains(reason), "{message}");
        }
        // A refused `hold` does not end the sandbox.
        assert_eq!(stop.try_recv().ok(), None);
    }
}
