//! The supervisor's socket: one request a connection, answered by a stream of
//! events, both as lines of JSON.
//!
//! Only the user's own processes reach it (the directory is 0700), so its
//! bytes are trusted as far as their sender is.

use std::io;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

use super::TimedEvent;
use crate::gateway::{GatewayCommand, GatewayReply};

/// What a command asks of a supervisor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "kebab-case")]
pub enum Request {
    /// Tell every event from the first to the last.
    Subscribe,
    /// The same; and an attached sandbox ends with this connection.
    Hold,
    /// Power down, and tell every event until nothing is left.
    Stop {
        /// How long the guest has to power itself down, in milliseconds.
        grace_ms: u64,
    },
    /// End at once, as soon as what the guest holds back for shares is written:
    /// nothing else of it is wanted any more. Tells every event, too.
    Discard,
    /// Something of the sandbox's network. It is the only request of its
    /// connection, and answered by one [`GatewayReply`].
    Gateway {
        /// What.
        command: GatewayCommand,
    },
}

/// How long a supervisor may take to answer.
const REPLY_DEADLINE: Duration = Duration::from_secs(10);

/// Asks a running sandbox's network.
///
/// # Errors
/// Where the supervisor does not answer.
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

/// A conversation with a supervisor.
#[derive(Debug)]
pub struct Connection {
    events: Lines<BufReader<OwnedReadHalf>>,
    writer: OwnedWriteHalf,
}

impl Connection {
    /// Connects and asks.
    pub async fn open(socket: &Path, request: Request) -> io::Result<Self> {
        let (reader, writer) = UnixStream::connect(socket).await?.into_split();
        let mut connection = Self {
            events: BufReader::new(reader).lines(),
            writer,
        };
        connection.ask(request).await?;
        Ok(connection)
    }

    /// Asks for something more on the same connection.
    pub async fn ask(&mut self, request: Request) -> io::Result<()> {
        let mut line = serde_json::to_string(&request)?;
        line.push('\n');
        self.writer.write_all(line.as_bytes()).await
    }

    /// The next event; `None` once the supervisor is gone. May be cancelled.
    pub async fn next_event(&mut self) -> io::Result<Option<TimedEvent>> {
        match self.events.next_line().await? {
            Some(line) => Ok(Some(serde_json::from_str(&line)?)),
            None => Ok(None),
        }
    }
}

impl Request {
    /// A request to stop with this grace.
    pub fn stop(grace: Duration) -> Self {
        Self::Stop {
            grace_ms: u64::try_from(grace.as_millis()).unwrap_or(u64::MAX),
        }
    }
}
