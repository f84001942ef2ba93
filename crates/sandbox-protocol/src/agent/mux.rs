//! Many streams over one, by yamux: the host opens them, the agent serves
//! them. Each has a window of its own, so one that nobody reads holds up no
//! other.

use std::future::poll_fn;
use std::io;
use std::task::Poll;

use tokio::io::{AsyncRead, AsyncWrite, BufStream};
use tokio::sync::{mpsc, oneshot};
use tokio_util::compat::{Compat, FuturesAsyncReadCompatExt, TokioAsyncReadCompatExt};
use yamux::{Config, Connection, Mode};

/// How many streams may be open at once.
pub const STREAM_LIMIT: usize = 128;

/// What one side buffers for all streams together, in bytes; yamux wants at
/// least 256 KiB for each.
const WINDOW_LIMIT: usize = STREAM_LIMIT * (256 << 10);

/// What is read and written at once, in bytes: the longest frame that yamux
/// makes (16 KiB and its header) fits. Each write is a copy, an interrupt and a
/// wake-up on the other side, and one that breaks off leaves no half frame.
const BUFFER: usize = 32 << 10;

/// One stream.
pub type Stream = Compat<yamux::Stream>;

/// Opens streams of a conversation.
#[derive(Debug, Clone)]
pub struct Opener(mpsc::Sender<oneshot::Sender<Stream>>);

impl Opener {
    /// Opens a stream. May be cancelled.
    ///
    /// # Errors
    /// When the conversation is over.
    pub async fn open(&self) -> io::Result<Stream> {
        let over = || io::Error::from(io::ErrorKind::NotConnected);
        let (sender, receiver) = oneshot::channel();
        self.0.send(sender).await.map_err(|_| over())?;
        receiver.await.map_err(|_| over())
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

/// The host's side: a handle that opens streams, and what must be run for them
/// to go on. The latter ends when the conversation does, with the reason.
pub fn host<S>(stream: S) -> (Opener, impl Future<Output = io::Error>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (sender, mut wanted) = mpsc::channel::<oneshot::Sender<Stream>>(1);
    let mut connection = Connection::new(buffered(stream), config(), Mode::Client);
    let mut next: Option<oneshot::Sender<Stream>> = None;
    let drive = poll_fn(move |context| {
        loop {
            if next.is_none()
                && let Poll::Ready(Some(asked)) = wanted.poll_recv(context)
            {
                next = Some(asked);
            }
            if next.is_some() {
                match connection.poll_new_outbound(context) {
                    Poll::Ready(Ok(stream)) => {
                        if let Some(asked) = next.take() {
                            // Whoever asked may have gone away.
                            let _ = asked.send(stream.compat());
                        }
                        continue;
                    }
                    Poll::Ready(Err(error)) => return Poll::Ready(io::Error::other(error)),
                    Poll::Pending => {}
                }
            }
            match connection.poll_next_inbound(context) {
                // The agent has no reason to open streams.
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

/// The agent's side: streams as the host opens them.
pub struct Incoming<S>(Connection<Compat<BufStream<S>>>);

impl<S: AsyncRead + AsyncWrite + Unpin> Incoming<S> {
    /// Serves the conversation on `stream`.
    pub fn new(stream: S) -> Self {
        Self(Connection::new(buffered(stream), config(), Mode::Server))
    }

    /// The next stream; `None` when the conversation is over. All streams go
    /// on only while this is waited for. May be cancelled.
    ///
    /// # Errors
    /// When the host breaks the rules of yamux, or the byte stream fails.
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
    async fn a_stream_that_nobody_reads_holds_up_no_other() {
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
                        // Nobody reads this; it fills its window and stays.
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
    async fn an_agent_that_opens_a_stream_of_the_largest_window_is_told_of_its_error() {
        let (near, mut far) = tokio::io::duplex(4096);
        let (_opener, drive) = host(near);
        let host = tokio::spawn(drive);
        // Version, a window update, SYN, stream 2, 2^32 - 1 bytes beyond the
        // usual 256 KiB.
        far.write_all(&[0, 1, 0, 1, 0, 0, 0, 2, 0xff, 0xff, 0xff, 0xff])
            .await
            .unwrap();
        let mut answers = [0; 24];
        far.read_exact(&mut answers).await.unwrap();
        // Behind a ping: version, "go away", for an error in the protocol.
        assert_eq!(answers[12..], [0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        drop(far);
        host.await.unwrap();
    }

    #[tokio::test]
    async fn an_agent_that_begins_anew_ends_the_conversation_with_its_predecessor() {
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
