//! Multiplexes streams over one byte stream, with yamux
//! (<https://github.com/hashicorp/yamux/blob/master/spec.md>).
//!
//! The host opens the streams, the agent serves them. Each stream has its own
//! window, so an unread stream does not block the others.

use std::future::poll_fn;
use std::io;
use std::task::Poll;

use tokio::io::{AsyncRead, AsyncWrite, BufStream};
use tokio::sync::{mpsc, oneshot};
use tokio_util::compat::{Compat, FuturesAsyncReadCompatExt, TokioAsyncReadCompatExt};
use yamux::{Config, Connection, Mode};

/// The maximum number of open streams.
pub const STREAM_LIMIT: usize = 128;

/// The maximum that one side buffers for all streams together, in bytes. yamux
/// requires at least 256 KiB a stream.
const WINDOW_LIMIT: usize = STREAM_LIMIT * (256 << 10);

/// The size of the read and the write buffer, in bytes.
///
/// The longest frame that yamux makes (16 KiB and its header) fits, so one write
/// carries a whole frame. Each write costs a copy, an interrupt and a wake-up of
/// the other side. An interrupted conversation leaves no partial frame.
const BUFFER: usize = 32 << 10;

/// One stream of a conversation.
pub type Stream = Compat<yamux::Stream>;

/// Opens the streams of a conversation.
#[derive(Debug, Clone)]
pub struct Opener(mpsc::Sender<oneshot::Sender<Stream>>);

impl Opener {
    /// Opens a stream. Cancel safe.
    ///
    /// # Errors
    /// When the conversation has ended.
    pub async fn open(&self) -> io::Result<Stream> {
        let ended = || io::Error::from(io::ErrorKind::NotConnected);
        let (sender, receiver) = oneshot::channel();
        self.0.send(sender).await.map_err(|_| ended())?;
        receiver.await.map_err(|_| ended())
    }
}

fn buffered<S: AsyncRead + AsyncWrite>(stream: S) -> Compat<BufStream<S>> {
    BufStream::with_capacity(BUFFER, BUFFER, stream).compat()
}

fn config() -> Config {
    let mut config = Config::default();
    config.set_max_connection_receive_window(None);
    config.set_max_num_streams(STREAM_LIMIT);
    config.set_max_connection_receive_window(Some(WINDOW_LIMIT));
    config
}

/// Starts the host's side of a conversation.
///
/// Returns a handle that opens streams, and a future that drives all of them.
/// The future ends with the conversation and returns the reason.
pub fn host<S>(stream: S) -> (Opener, impl Future<Output = io::Error>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (sender, mut requests) = mpsc::channel::<oneshot::Sender<Stream>>(1);
    let mut connection = Connection::new(buffered(stream), config(), Mode::Client);
    let mut next: Option<oneshot::Sender<Stream>> = None;
    let drive = poll_fn(move |context| {
        loop {
            if next.is_none()
                && let Poll::Ready(Some(requester)) = requests.poll_recv(context)
            {
                next = Some(requester);
            }
            if next.is_some() {
                match connection.poll_new_outbound(context) {
                    Poll::Ready(Ok(stream)) => {
                        if let Some(requester) = next.take() {
                            // The requester may have been cancelled.
                            let _ = requester.send(stream.compat());
                        }
                        continue;
                    }
                    Poll::Ready(Err(error)) => return Poll::Ready(io::Error::other(error)),
                    Poll::Pending => {}
                }
            }
            match connection.poll_next_inbound(context) {
                // The agent must not open streams.
                Poll::Ready(Some(Ok(stream))) => drop(stream),
                Poll::Ready(Some(Err(error))) => return Poll::Ready(io::Error::other(error)),
                Poll::Ready(None) => {
                    return Poll::Ready(io::ErrorKind::UnexpectedEof.into());
                }
                Poll::Pending => return Poll::Pending,
            }
        }
    });
    (Opener(sender), drive)
}

/// The agent's side of a conversation: accepts the streams of the host.
pub struct Incoming<S>(Connection<Compat<BufStream<S>>>);

impl<S: AsyncRead + AsyncWrite + Unpin> Incoming<S> {
    /// Starts the agent's side of the conversation on `stream`.
    pub fn new(stream: S) -> Self {
        Self(Connection::new(buffered(stream), config(), Mode::Server))
    }

    /// Returns the next stream, or `None` at the end of the conversation. All
    /// streams make progress only while this future runs. Cancel safe.
    ///
    /// # Errors
    /// When the host violates the yamux protocol, or the byte stream fails.
    pub async fn next(&mut self) -> io::Result<Option<Stream>> {
        match poll_fn(|context| self.0.poll_next_inbound(context)).await {
            Some(Ok(stream)) => Ok(Some(stream.compat())),
            Some(Err(error)) => Err(io::Error::other(error)),
            None => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn unread_stream_blocks_no_other_stream() {
        let (near, far) = tokio::io::duplex(4096);
        let (opener, drive) = host(near);
        let host = tokio::spawn(drive);
        let agent = tokio::spawn(async move {
            let mut incoming = Incoming::new(far);
            while let Ok(Some(mut stream)) = incoming.next().await {
                tokio::spawn(async move {
                    let mut name = [0; 4];
                    stream.read_exact(&mut name).await.unwrap();
                    if name == *b"slow" {
                        // Nobody reads this: it fills its window and blocks.
                        let _ = stream.write_all(&vec![0; 4 << 20]).await;
                    } else {
                        stream.write_all(&[1; 1 << 20]).await.unwrap();
                        stream.shutdown().await.unwrap();
                    }
                });
            }
        });
        let mut slow = opener.open().await.unwrap();
        slow.write_all(b"slow").await.unwrap();
        slow.flush().await.unwrap();
        let mut fast = opener.open().await.unwrap();
        fast.write_all(b"fast").await.unwrap();
        fast.flush().await.unwrap();
        let mut content = Vec::new();
        fast.read_to_end(&mut content).await.unwrap();
        assert_eq!(content, [1; 1 << 20]);
        agent.abort();
        host.await.unwrap();
        assert!(opener.open().await.is_err());
    }

    #[tokio::test]
    async fn host_answers_a_stream_with_the_largest_window_with_a_protocol_error() {
        let (near, mut far) = tokio::io::duplex(4096);
        let (_opener, drive) = host(near);
        let host = tokio::spawn(drive);
        // Version 0, a window update, SYN, stream 2, 2^32 - 1 bytes beyond the
        // initial 256 KiB.
        far.write_all(&[0, 1, 0, 1, 0, 0, 0, 2, 0xff, 0xff, 0xff, 0xff])
            .await
            .unwrap();
        let mut answers = [0; 24];
        far.read_exact(&mut answers).await.unwrap();
        // After a ping: version 0, "go away", code 1 (protocol error).
        assert_eq!(answers[12..], [0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        drop(far);
        host.await.unwrap();
    }

    #[tokio::test]
    async fn preamble_of_a_waiting_agent_ends_the_conversation() {
        let (near, mut far) = tokio::io::duplex(4096);
        let (_opener, drive) = host(near);
        far.write_all(&crate::agent::preamble::encode(
            &crate::agent::preamble::WAITING,
        ))
        .await
        .unwrap();
        drive.await;
    }
}
