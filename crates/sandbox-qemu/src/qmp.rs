//! A client of QEMU's machine protocol (QMP), with the commands and events in use.
//!
//! One task owns the socket. It sends each answer to the caller of its command, by id, and known
//! events to a channel. It ignores unknown events.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot};

use command::Command;
pub use event::{BlockIoError, Event, Migration, MigrationStatus};

pub mod command;
mod event;

/// The maximum length of a line in bytes. QEMU's answers are far shorter, so a longer line comes
/// from another program.
const LINE_LIMIT: u64 = 1 << 20;

/// A failure of a QMP conversation.
#[derive(Debug, thiserror::Error)]
pub enum QmpError {
    /// The socket cannot be reached.
    #[error("could not connect to QEMU's monitor")]
    Connect(#[source] io::Error),
    /// QEMU closed the connection, usually because it ended.
    #[error("QEMU closed its monitor during `{command}`")]
    Closed {
        /// The command without an answer.
        command: &'static str,
    },
    /// QEMU refused the command.
    #[error("QEMU refused `{command}`: {description}")]
    Refused {
        /// The command.
        command: &'static str,
        /// QEMU's error message.
        description: String,
    },
    /// The answer does not have the command's type.
    #[error("could not read QEMU's answer to `{command}`")]
    Answer {
        /// The command.
        command: &'static str,
        /// The cause.
        #[source]
        source: serde_json::Error,
    },
    /// QEMU did not answer in time.
    #[error("QEMU did not answer `{command}` within {} s", timeout.as_secs())]
    TimedOut {
        /// The command.
        command: &'static str,
        /// The time limit.
        timeout: Duration,
    },
}

/// An answer, or QEMU's error message.
type Answer = Result<Value, String>;
type Pending = Arc<Mutex<Option<HashMap<u64, oneshot::Sender<Answer>>>>>;

/// A connection to one QEMU process.
pub struct Client {
    writer: OwnedWriteHalf,
    pending: Pending,
    next_id: u64,
    /// Events in the order in which QEMU sent them.
    pub events: mpsc::UnboundedReceiver<Event>,
}

impl Client {
    /// Connects and negotiates the capabilities (QEMU's qmp-spec, "Capabilities Negotiation").
    pub async fn connect(socket: &Path) -> Result<Self, QmpError> {
        let stream = UnixStream::connect(socket)
            .await
            .map_err(QmpError::Connect)?;
        let (reader, writer) = stream.into_split();
        let pending: Pending = Arc::new(Mutex::new(Some(HashMap::new())));
        let (sender, events) = mpsc::unbounded_channel();
        tokio::spawn(read_messages(reader, pending.clone(), sender));
        let mut client = Self {
            writer,
            pending,
            next_id: 0,
            events,
        };
        client.execute(command::QmpCapabilities {}).await?;
        Ok(client)
    }

    /// Sends one command and waits for its answer.
    pub async fn execute<C: Command>(&mut self, command: C) -> Result<C::Reply, QmpError> {
        let name = C::NAME;
        let closed = || QmpError::Closed { command: name };
        self.next_id += 1;
        let id = self.next_id;
        let (sender, receiver) = oneshot::channel();
        match self
            .pending
            .lock()
            .expect("no holder of this lock panics")
            .as_mut()
        {
            Some(pending) => pending.insert(id, sender),
            None => return Err(closed()),
        };
        let arguments = serde_json::to_value(&command).map_err(|source| QmpError::Answer {
            command: name,
            source,
        })?;
        let mut line = json!({"execute": name, "arguments": arguments, "id": id}).to_string();
        line.push('\n');
        self.writer
            .write_all(line.as_bytes())
            .await
            .map_err(|_| closed())?;
        let answer = tokio::time::timeout(C::TIMEOUT, receiver)
            .await
            .map_err(|_| QmpError::TimedOut {
                command: name,
                timeout: C::TIMEOUT,
            })?
            .map_err(|_| closed())?;
        match answer {
            Ok(value) => serde_json::from_value(value).map_err(|source| QmpError::Answer {
                command: name,
                source,
            }),
            Err(description) => Err(QmpError::Refused {
                command: name,
                description,
            }),
        }
    }

    /// Grows the disk `node` to this size. QEMU reports the new size to the guest.
    pub async fn resize_disk(&mut self, node: &str, bytes: u64) -> Result<(), QmpError> {
        let size = i64::try_from(bytes).unwrap_or(i64::MAX);
        self.execute(command::BlockResize {
            node_name: node.into(),
            size,
        })
        .await?;
        Ok(())
    }
}

async fn read_messages(
    reader: OwnedReadHalf,
    pending: Pending,
    events: mpsc::UnboundedSender<Event>,
) {
    use tokio::io::AsyncReadExt;
    let mut reader = BufReader::new(reader);
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = (&mut reader)
            .take(LINE_LIMIT)
            .read_until(b'\n', &mut line)
            .await;
        if !matches!(read, Ok(count) if count > 0) || line.last() != Some(&b'\n') {
            break;
        }
        let Ok(message) = serde_json::from_slice::<Value>(&line) else {
            break;
        };
        if message.get("event").is_some() {
            match serde_json::from_value(message) {
                Ok(event) => drop(events.send(event)),
                Err(error) => tracing::debug!(%error, "ignored an unknown event of QEMU"),
            }
        } else if let Some((id, answer)) = read_answer(message) {
            let waiting = pending
                .lock()
                .expect("no holder of this lock panics")
                .as_mut()
                .and_then(|pending| pending.remove(&id));
            if let Some(waiting) = waiting {
                drop(waiting.send(answer));
            }
        }
    }
    // Dropping the senders ends the waits for answers.
    drop(
        pending
            .lock()
            .expect("no holder of this lock panics")
            .take(),
    );
}

/// Returns the id and the content of an answer; `None` for the greeting.
fn read_answer(mut message: Value) -> Option<(u64, Answer)> {
    let id = message.get("id")?.as_u64()?;
    if let Some(error) = message.get("error") {
        let description = error
            .get("desc")
            .and_then(Value::as_str)
            .unwrap_or("no reason given");
        return Some((id, Err(description.into())));
    }
    Some((id, Ok(message.get_mut("return")?.take())))
}

#[cfg(test)]
mod tests {
    use tokio::task::JoinHandle;

    use super::*;

    #[test]
    fn read_answer_distinguishes_greeting_result_and_error() {
        assert!(read_answer(json!({"QMP": {}})).is_none());
        assert_eq!(
            read_answer(json!({"return": {"a": 1}, "id": 4})),
            Some((4, Ok(json!({"a": 1}))))
        );
        assert_eq!(
            read_answer(json!({"error": {"class": "GenericError", "desc": "no"}, "id": 5})),
            Some((5, Err("no".into())))
        );
    }

    /// Connects a client to a monitor that `serve` plays. Returns the client and the end of
    /// `serve`.
    async fn connect_to<F>(
        serve: impl FnOnce(BufReader<OwnedReadHalf>, OwnedWriteHalf) -> F + Send + 'static,
    ) -> (Client, JoinHandle<F::Output>)
    where
        F: Future<Output: Send + 'static> + Send,
    {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("qmp.sock");
        let listener = tokio::net::UnixListener::bind(&socket).unwrap();
        let server = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let (reader, writer) = stream.into_split();
            serve(BufReader::new(reader), writer).await
        });
        (Client::connect(&socket).await.unwrap(), server)
    }

    #[tokio::test]
    async fn client_ignores_unknown_events_and_reports_refusals() {
        let (mut client, server) = connect_to(|reader, mut writer| async move {
            let mut lines = reader.lines();
            writer
                .write_all(b"{\"QMP\": {\"version\": {}, \"capabilities\": []}}\n")
                .await
                .unwrap();
            for answer in [
                r#"{"return": {}, "id": 1}"#,
                "{\"event\": \"NETDEV_VHOST_USER_CONNECTED\", \"data\": {}, \"timestamp\": {\"seconds\": 1, \"microseconds\": 2}}\n{\"event\": \"STOP\", \"timestamp\": {\"seconds\": 1, \"microseconds\": 2}}\n{\"error\": {\"class\": \"GenericError\", \"desc\": \"not now\"}, \"id\": 2}",
            ] {
                lines.next_line().await.unwrap().unwrap();
                writer
                    .write_all(format!("{answer}\n").as_bytes())
                    .await
                    .unwrap();
            }
        })
        .await;
        let refused = client
            .execute(command::SystemPowerdown {})
            .await
            .unwrap_err();
        assert!(
            matches!(refused, QmpError::Refused { description, .. } if description == "not now")
        );
        assert!(matches!(client.events.recv().await, Some(Event::Stop)));
        server.await.unwrap();
        assert!(matches!(
            client.execute(command::Quit {}).await,
            Err(QmpError::Closed { command: "quit" })
        ));
    }

    #[tokio::test]
    async fn execute_sends_one_line_with_name_arguments_and_id() {
        let (mut client, server) = connect_to(|mut reader, mut writer| async move {
            let mut sent = String::new();
            for id in 1..=2 {
                reader.read_line(&mut sent).await.unwrap();
                let answer = format!("{{\"return\": {{}}, \"id\": {id}}}\n");
                writer.write_all(answer.as_bytes()).await.unwrap();
            }
            sent
        })
        .await;
        client.resize_disk("root", 2_097_152).await.unwrap();
        assert_eq!(
            server.await.unwrap(),
            concat!(
                r#"{"arguments":{},"execute":"qmp_capabilities","id":1}"#,
                "\n",
                r#"{"arguments":{"node-name":"root","size":2097152},"execute":"block_resize","id":2}"#,
                "\n",
            )
        );
    }
}
