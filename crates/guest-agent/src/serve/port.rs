//! The guest agent's virtio-serial port as a tokio stream.
//!
//! While the host is not connected, the kernel reports the port as hung up
//! (`drivers/char/virtio_console.c`), so tokio would always find it ready.
//! Therefore a separate epoll instance watches the port for changes
//! (edge-triggered, epoll(7)). tokio watches that instance, which is readable
//! only after a change.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};

use crate::{async_fd, virtio_port};

/// An open port. The kernel allows one process at a time to open it.
#[derive(Debug)]
pub(crate) struct Port {
    descriptor: OwnedFd,
    /// The epoll instance.
    changes: AsyncFd<OwnedFd>,
    /// Whether each [`Direction`] waits for a change.
    waiting: [bool; 2],
}

#[derive(Debug, Clone, Copy)]
enum Direction {
    Read = 0,
    Write = 1,
}

impl Port {
    /// Opens the agent's port.
    pub(crate) fn open() -> io::Result<Self> {
        let path = virtio_port::find(sandbox_protocol::agent::PORT_NAME)?;
        let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
        Self::from_descriptor(rustix::fs::open(path, flags, Mode::empty())?)
    }

    /// Uses any non-blocking descriptor as a port.
    fn from_descriptor(descriptor: OwnedFd) -> io::Result<Self> {
        let changes = epoll::create(CreateFlags::CLOEXEC)?;
        epoll::add(
            &changes,
            &descriptor,
            EventData::new_u64(0),
            EventFlags::IN | EventFlags::OUT | EventFlags::ET,
        )?;
        Ok(Self {
            descriptor,
            changes: async_fd::register(changes, Interest::READABLE)?,
            waiting: [false; 2],
        })
    }

    /// Waits until the host is connected.
    pub(crate) async fn connected(&mut self) -> io::Result<()> {
        while self.is_hung_up()? {
            std::future::poll_fn(|context| self.poll_change(context)).await?;
        }
        Ok(())
    }

    fn is_hung_up(&self) -> io::Result<bool> {
        let mut descriptors = [PollFd::new(&self.descriptor, PollFlags::IN)];
        rustix::event::poll(&mut descriptors, Some(&Timespec::default()))?;
        Ok(descriptors[0].revents().contains(PollFlags::HUP))
    }

    /// Waits for a change. May return for a change that was already handled.
    fn poll_change(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut guard = ready!(self.changes.poll_read_ready(context))?;
        let mut events = [const { std::mem::MaybeUninit::uninit() }; 1];
        epoll::wait(&self.changes, &mut events, Some(&Timespec::default()))?;
        guard.clear_ready();
        Poll::Ready(Ok(()))
    }

    /// Tries `operation` now and after each change. One task must use both
    /// directions.
    fn poll_operation(
        &mut self,
        context: &mut Context<'_>,
        direction: Direction,
        mut operation: impl FnMut(&OwnedFd) -> rustix::io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            match operation(&self.descriptor) {
                Err(Errno::AGAIN) => {}
                Err(Errno::INTR) => continue,
                done => {
                    self.waiting[direction as usize] = false;
                    return Poll::Ready(done.map_err(io::Error::from));
                }
            }
            self.waiting[direction as usize] = true;
            ready!(self.poll_change(context))?;
            // The other direction may wait for this same change.
            if self.waiting[1 - direction as usize] {
                context.waker().wake_by_ref();
            }
        }
    }
}

impl AsyncRead for Port {
    /// Returns the end of the stream when the host is not connected.
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = ready!(self.poll_operation(context, Direction::Read, |descriptor| {
            rustix::io::read(descriptor, buffer.initialize_unfilled())
        }))?;
        buffer.advance(read);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Port {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_operation(context, Direction::Write, |descriptor| {
            rustix::io::write(descriptor, bytes)
        })
    }

    /// Does nothing: the kernel passes bytes on as they are written.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// Does nothing: the next conversation uses the same open port.
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    fn pair() -> (Port, tokio::net::UnixStream) {
        let (near, far) = UnixStream::pair().unwrap();
        near.set_nonblocking(true).unwrap();
        far.set_nonblocking(true).unwrap();
        let far = tokio::net::UnixStream::from_std(far).unwrap();
        (Port::from_descriptor(near.into()).unwrap(), far)
    }

    #[tokio::test]
    async fn port_wakes_both_directions_after_a_change() {
        let (port, host) = pair();
        let echo = async {
            let (mut reader, mut writer) = tokio::io::split(port);
            tokio::io::copy(&mut reader, &mut writer).await.unwrap()
        };
        let (mut from_guest, mut to_guest) = host.into_split();
        let send = async {
            to_guest.write_all(&[7; 5 << 20]).await.unwrap();
            drop(to_guest);
        };
        let receive = async {
            let mut received = Vec::new();
            from_guest.read_to_end(&mut received).await.unwrap();
            received
        };
        let (copied, (), received) = tokio::join!(echo, send, receive);
        assert_eq!((copied, received.len()), (5 << 20, 5 << 20));
    }

    #[tokio::test]
    async fn port_ends_when_the_host_disconnects() {
        let (mut port, mut host) = pair();
        port.connected().await.unwrap();
        host.write_all(b"x").await.unwrap();
        drop(host);
        let mut received = Vec::new();
        port.read_to_end(&mut received).await.unwrap();
        assert_eq!(received, b"x");
        assert!(port.is_hung_up().unwrap());
    }
}
