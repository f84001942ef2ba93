//! The supervisor's socket. A command sends requests, and the supervisor answers with a stream of
//! events; both are lines of JSON.
//!
//! The directory has mode 0700, so only processes of the user can connect. They are trusted.

use std::io;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

use crate::event::TimedEvent;
use crate::gateway::{GatewayCommand, GatewayReply};

/// A request of a command to a supervisor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Request {
    /// Send all events, from the first to the last.
    Subscribe,
    /// Send all events, and end an attached sandbox with this connection.
    Hold,
    /// Power the guest down, and send all events to the last.
    Stop {
        /// The time for the guest to power down, in milliseconds.
        grace_ms: u64,
    },
    /// Write the data that the guest still holds back for shares, then end the sandbox without a
    /// power-down. Also send all events.
    Discard,
    /// Pass a command to the gateway. It is the only request of its connection, and one
    /// [`GatewayReply`] answers it.
    Gateway {
        /// The command.
        command: GatewayCommand,
    },
}

/// The time limit for an answer of the gateway.
const REPLY_DEADLINE: Duration = Duration::from_secs(10);

/// Sends a command to the gateway of a running sandbox and returns its answer.
///
/// # Errors
/// Fails if the supervisor closes the connection, does not answer within 10 s, or sends an unknown
/// answer.
pub async fn ask_gateway(socket: &Path, command: GatewayCommand) -> io::Result<GatewayReply> {
    let asking = async {
        let mut connection = Connection::open(socket, Request::Gateway { command }).await?;
        let line = connection.events.next_line().await?;
        let line = line.ok_or(io::ErrorKind::UnexpectedEof)?;
        Ok(serde_json::from_str(&line)?)
    };
    tokio::time::timeout(REPLY_DEADLINE, asking)
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

/// A connection to a supervisor.
#[derive(Debug)]
pub struct Connection {
    events: Lines<BufReader<OwnedReadHalf>>,
    writer: OwnedWriteHalf,
}

impl Connection {
    /// Connects to the socket and sends the first request.
    ///
    /// # Errors
    /// Fails if no supervisor listens, or the connection breaks.
    pub async fn open(socket: &Path, request: Request) -> io::Result<Self> {
        let (reader, writer) = UnixStream::connect(socket).await?.into_split();
        let mut connection = Self {
            events: BufReader::new(reader).lines(),
            writer,
        };
        connection.ask(request).await?;
        Ok(connection)
    }

    /// Sends a further request on the same connection.
    ///
    /// # Errors
    /// Fails if the connection breaks.
    pub async fn ask(&mut self, request: Request) -> io::Result<()> {
        let mut line = serde_json::to_string(&request)?;
        line.push('\n');
        self.writer.write_all(line.as_bytes()).await
    }

    /// Returns the next event; `None` if the supervisor is gone. Safe to cancel.
    ///
    /// # Errors
    /// Fails if the connection breaks or the event is unknown.
    pub async fn next_event(&mut self) -> io::Result<Option<TimedEvent>> {
        match self.events.next_line().await? {
            Some(line) => Ok(Some(serde_json::from_str(&line)?)),
            None => Ok(None),
        }
    }
}

impl Request {
    /// Returns a [`Request::Stop`] with this time for the power-down.
    pub fn stop(grace: Duration) -> Self {
        Self::Stop {
            grace_ms: u64::try_from(grace.as_millis()).unwrap_or(u64::MAX),
        }
    }
}
