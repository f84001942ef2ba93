//! A connection to a host, whose bytes count in the access log.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use crate::access_log::FlowEntry;

/// A connection to a host. Written bytes count as up, read bytes as down.
pub(super) struct MeteredStream<S> {
    inner: S,
    flow: FlowEntry,
    last: LastActivity,
}

/// The time of a connection's last read or write.
#[derive(Clone)]
pub(super) struct LastActivity(Rc<Cell<Instant>>);

impl<S> MeteredStream<S> {
    /// Counts the bytes for `flow`, which ends with the stream.
    pub(super) fn new(inner: S, flow: FlowEntry) -> Self {
        Self {
            inner,
            flow,
            last: LastActivity(Rc::new(Cell::new(Instant::now()))),
        }
    }

    pub(super) fn last_activity(&self) -> LastActivity {
        self.last.clone()
    }
}

impl LastActivity {
    /// Ends when the connection was idle for `limit`.
    pub(super) async fn idle_for(&self, limit: std::time::Duration) {
        loop {
            let deadline = self.0.get() + limit;
            if deadline <= Instant::now() {
                return;
            }
            tokio::time::sleep_until(deadline).await;
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for MeteredStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(context, buffer))?;
        self.flow.add_down((buffer.filled().len() - before) as u64);
        self.last.0.set(Instant::now());
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for MeteredStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.inner).poll_write(context, bytes))?;
        self.flow.add_up(written as u64);
        self.last.0.set(Instant::now());
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}
