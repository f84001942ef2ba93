//! The supervisor's socket. A command sends requests, and the supervisor answers with a stream of
//! events. Both are lines of JSON.
//!
//! The directory has mode 0700, so only processes of the user can connect. They are trusted.

use std::io;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

use crate::event::{Event, TimedEvent};
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

/// The version of requests and events. A supervisor refuses requests of another version with
/// [`Event::Refused`], which every version can read. Only the requests to end a sandbox are the
/// same in every version. A new event that an older program may ignore does not raise the version.
pub const VERSION: u32 = 1;

/// A request as a line, with the version of its sender.
#[derive(Serialize)]
struct Line<'a> {
    version: u32,
    #[serde(flatten)]
    request: &'a Request,
}

/// The version of a line's sender. Programs from before the version field speak version 1.
#[derive(Deserialize)]
struct Sender {
    #[serde(default = "first_version")]
    version: u32,
}

fn first_version() -> u32 {
    VERSION
}

/// Reads a request from its line.
///
/// # Errors
/// Returns the reason of the refusal, as text, for an unknown request or one of another version.
pub fn read_request(line: &str) -> Result<Request, String> {
    let request: Result<Request, _> = serde_json::from_str(line);
    if let Ok(request @ (Request::Stop { .. } | Request::Discard)) = request {
        return Ok(request);
    }
    match serde_json::from_str(line) {
        Ok(Sender { version }) if version != VERSION => Err(format!(
            "the sandbox was started by a program with version {VERSION} of the control protocol, \
             but the request has version {version}"
        )),
        _ => request.map_err(|error| format!("unknown request: {error}")),
    }
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
        if let Ok(TimedEvent {
            event: Event::Refused { message },
            ..
        }) = serde_json::from_str(&line)
        {
            return Ok(GatewayReply::Refused {
                message,
                hint: Some(Event::refusal_hint(None)),
            });
        }
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
        let mut line = serde_json::to_string(&Line {
            version: VERSION,
            request: &request,
        })?;
        line.push('\n');
        self.writer.write_all(line.as_bytes()).await
    }

    /// Returns the next event; `None` if the supervisor is gone. Events that this version does not
    /// know are [`Event::Unknown`]. Safe to cancel.
    ///
    /// # Errors
    /// Fails if the connection breaks or the line is not an event.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_of_another_version_is_refused() {
        let request = read_request(r#"{"version":1,"request":"subscribe"}"#);
        assert_eq!(request, Ok(Request::Subscribe));
        // Before the version was part of it.
        let request = read_request(r#"{"request":"stop","grace_ms":5}"#);
        assert_eq!(request, Ok(Request::Stop { grace_ms: 5 }));
        let refusal = read_request(r#"{"version":2,"request":"subscribe"}"#).unwrap_err();
        assert!(refusal.contains("the request has version 2"), "{refusal}");
        // Every version can end a sandbox.
        let request = read_request(r#"{"version":2,"request":"discard"}"#);
        assert_eq!(request, Ok(Request::Discard));
        for line in ["", "{", r#"{"version":1,"request":"fly"}"#] {
            assert!(read_request(line).is_err(), "{line}");
        }
    }
}
