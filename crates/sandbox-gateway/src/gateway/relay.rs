//! Passes bytes between a guest connection and a host connection.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};

use super::shaper::{Direction, Permit, Shaper};
use super::tcp::GuestStream;
use crate::access_log::FlowEntry;

/// Passes bytes in both directions until both have ended. If `cut` completes or one connection
/// fails first, resets both connections.
pub(super) async fn relay(
    guest: &GuestStream,
    mut host: TcpStream,
    shaper: &Rc<Shaper>,
    entry: Option<&FlowEntry>,
    cut: impl Future<Output = ()>,
) {
    let (reader, writer) = host.split();
    let passage = Passage {
        guest,
        shaper,
        entry,
    };
    let both = async { tokio::try_join!(passage.up(writer), passage.down(reader)) };
    let whole = tokio::select! {
        ended = both => ended.is_ok(),
        () = cut => false,
    };
    if !whole {
        guest.reset();
        // With a linger time of zero, close(2) resets the connection. The call cannot fail on an
        // open socket.
        let _ = rustix::net::sockopt::set_socket_linger(&host, Some(std::time::Duration::ZERO));
    }
}

/// A guest connection whose bytes are shaped and counted.
struct Passage<'a> {
    guest: &'a GuestStream,
    shaper: &'a Rc<Shaper>,
    entry: Option<&'a FlowEntry>,
}

impl Passage<'_> {
    /// Passes bytes from the guest to the host until the guest's end.
    async fn up(&self, mut host: WriteHalf<'_>) -> io::Result<()> {
        let guest = self.guest;
        loop {
            let mut permit = None;
            if self.shaper.is_bound() {
                let waiting = poll_fn(|context| guest.poll_waiting(context)).await?;
                permit = Some(self.shaper.reserve(Direction::Up, waiting));
            }
            let most = most(&mut permit).await;
            let taken = poll_fn(|context| poll_up(guest, &mut host, most, context)).await?;
            let Some(taken) = taken else { break };
            self.count(Direction::Up, permit, taken);
        }
        // Passes the guest's end to the host.
        poll_fn(|context| Pin::new(&mut host).poll_shutdown(context)).await
    }

    /// Passes bytes from the host to the guest until the host's end.
    async fn down(&self, mut host: ReadHalf<'_>) -> io::Result<()> {
        let guest = self.guest;
        loop {
            let mut permit = None;
            if self.shaper.is_bound() {
                poll_fn(|context| poll_readable(guest, &host, context)).await?;
                let waiting = rustix::io::ioctl_fionread(host.as_ref())?;
                let waiting = usize::try_from(waiting).unwrap_or(usize::MAX);
                // No bytes wait at the end of the stream or after a spurious wake-up. A permit for
                // one byte covers both cases.
                permit = Some(self.shaper.reserve(Direction::Down, waiting.max(1)));
            }
            let most = most(&mut permit).await;
            let given = poll_fn(|context| poll_down(guest, &mut host, most, context)).await?;
            if given == 0 {
                guest.finish();
                return Ok(());
            }
            self.count(Direction::Down, permit, given);
        }
    }

    /// Counts bytes that have passed.
    fn count(&self, direction: Direction, permit: Option<Permit>, bytes: usize) {
        if let Some(permit) = permit {
            permit.spend(bytes);
        }
        match (self.entry, direction) {
            (Some(entry), Direction::Up) => entry.add_up(bytes as u64),
            (Some(entry), Direction::Down) => entry.add_down(bytes as u64),
            (None, _) => {}
        }
    }
}

/// Writes at most `most` bytes from the guest to the host. Returns their number, or `None` at the
/// guest's end.
fn poll_up(
    guest: &GuestStream,
    host: &mut WriteHalf<'_>,
    most: usize,
    context: &mut Context<'_>,
) -> Poll<io::Result<Option<usize>>> {
    let taken = guest.poll_take(context, |context, bytes| {
        let bytes = bytes.get(..most).unwrap_or(bytes);
        match Pin::new(host).poll_write(context, bytes) {
            Poll::Ready(Ok(taken)) => (taken, Poll::Ready(Ok(taken))),
            Poll::Ready(Err(error)) => (0, Poll::Ready(Err(error))),
            Poll::Pending => (0, Poll::Pending),
        }
    });
    match ready!(taken)? {
        Some(taken) => taken.map_ok(Some),
        None => Poll::Ready(Ok(None)),
    }
}

/// Reads at most `most` bytes from the host, directly into the send buffer of the guest connection.
/// Returns their number, 0 at the host's end.
fn poll_down(
    guest: &GuestStream,
    host: &mut ReadHalf<'_>,
    most: usize,
    context: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    let given = guest.poll_give(context, |context, buffer| {
        let most = most.min(buffer.len());
        let mut buffer = ReadBuf::new(&mut buffer[..most]);
        match Pin::new(host).poll_read(context, &mut buffer) {
            Poll::Ready(Ok(())) => {
                let given = buffer.filled().len();
                (given, Poll::Ready(Ok(given)))
            }
            Poll::Ready(Err(error)) => (0, Poll::Ready(Err(error))),
            Poll::Pending => (0, Poll::Pending),
        }
    });
    let given = ready!(given)?;
    if given.is_pending() {
        check_open(guest, context)?;
    }
    given
}

/// Waits for bytes from the host, or for their end.
fn poll_readable(
    guest: &GuestStream,
    host: &ReadHalf<'_>,
    context: &mut Context<'_>,
) -> Poll<io::Result<()>> {
    check_open(guest, context)?;
    host.as_ref().poll_read_ready(context)
}

/// Fails if the guest has reset the connection. A wait for the host would not notice that.
fn check_open(guest: &GuestStream, context: &mut Context<'_>) -> io::Result<()> {
    if guest.poll_closed(context) {
        return Err(io::ErrorKind::ConnectionReset.into());
    }
    Ok(())
}

/// Waits until the permit is due. Returns the number of bytes that may pass. Without a permit, all
/// bytes may pass.
async fn most(permit: &mut Option<Permit>) -> usize {
    match permit {
        Some(permit) => permit.due().await,
        None => usize::MAX,
    }
}
