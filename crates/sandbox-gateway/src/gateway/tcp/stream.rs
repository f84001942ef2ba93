//! The gateway's side of a guest connection, as a byte stream.

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::{fmt, io};

use smoltcp::socket::tcp::{RecvError, State};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{Ends, Open, Table};

/// The gateway's side of a guest connection: reads come from the guest, writes go to it. Dropping
/// the stream closes the connection. Bytes written before that are still delivered.
pub(in super::super) struct GuestStream {
    table: Rc<Table>,
    ends: Ends,
    open: Rc<RefCell<Open>>,
}

impl fmt::Debug for GuestStream {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_tuple("GuestStream")
            .field(&self.ends)
            .finish()
    }
}

impl GuestStream {
    pub(super) fn new(table: Rc<Table>, ends: Ends, open: Rc<RefCell<Open>>) -> Self {
        Self { table, ends, open }
    }

    /// Waits for the three-way handshake.
    ///
    /// # Errors
    ///
    /// If the guest refuses the connection, or does not answer for a minute.
    pub(in super::super) async fn established(&self) -> io::Result<()> {
        poll_fn(|context| {
            let mut open = self.open.borrow_mut();
            let socket = open.connection.socket();
            match socket.state() {
                State::Listen | State::SynSent | State::SynReceived => {
                    socket.register_recv_waker(context.waker());
                    socket.register_send_waker(context.waker());
                    Poll::Pending
                }
                State::Closed => Poll::Ready(Err(io::ErrorKind::ConnectionRefused.into())),
                _ => {
                    open.connection.established();
                    Poll::Ready(Ok(()))
                }
            }
        })
        .await
    }

    /// Passes received bytes to `take` without copying them. `take` returns the number of bytes
    /// that it took, and a result. Returns that result, or `None` at the end of the guest's bytes.
    pub(in super::super) fn poll_take<R>(
        &self,
        context: &mut Context<'_>,
        take: impl FnOnce(&mut Context<'_>, &[u8]) -> (usize, R),
    ) -> Poll<io::Result<Option<R>>> {
        let mut open = self.open.borrow_mut();
        let socket = open.connection.socket();
        if socket.can_recv() {
            let taken = socket.recv(|bytes| {
                let (count, result) = take(context, bytes);
                (count, (count, result))
            });
            let (count, result) = taken.map_err(|_| io::ErrorKind::ConnectionReset)?;
            drop(open);
            if count > 0 {
                // The guest may be waiting for the window to open.
                self.table.speak(self.ends, &self.open);
            }
            return Poll::Ready(Ok(Some(result)));
        }
        if socket.may_recv() || matches!(socket.state(), State::SynReceived | State::SynSent) {
            socket.register_recv_waker(context.waker());
            return Poll::Pending;
        }
        Poll::Ready(match socket.recv(|_| (0, ())) {
            Err(RecvError::Finished) => Ok(None),
            _ => Err(io::ErrorKind::ConnectionReset.into()),
        })
    }

    /// Waits for bytes from the guest. Returns a lower bound of their number, or 0 at their end.
    pub(in super::super) fn poll_waiting(
        &self,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let waiting = self.poll_take(context, |_, bytes| (0, bytes.len()));
        waiting.map_ok(Option::unwrap_or_default)
    }

    /// Lets `give` write into the connection's send buffer. `give` returns the number of bytes that
    /// it wrote, and a result.
    pub(in super::super) fn poll_give<R>(
        &self,
        context: &mut Context<'_>,
        give: impl FnOnce(&mut Context<'_>, &mut [u8]) -> (usize, R),
    ) -> Poll<io::Result<R>> {
        let mut open = self.open.borrow_mut();
        let socket = open.connection.socket();
        if socket.can_send() {
            let given = socket.send(|buffer| {
                let (count, result) = give(context, buffer);
                (count, (count, result))
            });
            let (count, result) = given.map_err(|_| io::ErrorKind::BrokenPipe)?;
            drop(open);
            if count > 0 {
                self.table.speak(self.ends, &self.open);
            }
            return Poll::Ready(Ok(result));
        }
        if socket.may_send() || matches!(socket.state(), State::SynReceived | State::SynSent) {
            socket.register_send_waker(context.waker());
            return Poll::Pending;
        }
        Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
    }

    /// Returns whether the guest has reset the connection. If not, wakes the task when that may
    /// have changed.
    pub(in super::super) fn poll_closed(&self, context: &mut Context<'_>) -> bool {
        let mut open = self.open.borrow_mut();
        let socket = open.connection.socket();
        if socket.state() == State::Closed {
            return true;
        }
        socket.register_send_waker(context.waker());
        false
    }

    /// Ends the direction to the guest. The guest can still send.
    pub(in super::super) fn finish(&self) {
        self.open.borrow_mut().connection.socket().close();
        self.table.speak(self.ends, &self.open);
    }

    /// Resets the connection.
    pub(in super::super) fn reset(&self) {
        self.open.borrow_mut().connection.socket().abort();
        self.table.speak(self.ends, &self.open);
    }
}

impl Drop for GuestStream {
    fn drop(&mut self) {
        let now = self.table.link.now();
        self.open.borrow_mut().connection.abandon(now);
        self.table.speak(self.ends, &self.open);
    }
}

impl AsyncRead for GuestStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let taken = self.poll_take(context, |_, bytes| {
            let count = bytes.len().min(buffer.remaining());
            buffer.put_slice(bytes.get(..count).unwrap_or_default());
            (count, ())
        });
        taken.map_ok(|_| ())
    }
}

impl AsyncWrite for GuestStream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_give(context, |_, buffer| {
            let count = bytes.len().min(buffer.len());
            buffer[..count].copy_from_slice(&bytes[..count]);
            (count, count)
        })
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.finish();
        Poll::Ready(Ok(()))
    }
}
