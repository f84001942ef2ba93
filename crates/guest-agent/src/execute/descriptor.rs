//! The agent's ends of a program's pipes and terminal.

use std::io;

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::async_fd;

/// A non-blocking descriptor that tokio watches.
#[derive(Debug)]
pub(super) struct Descriptor(AsyncFd<OwnedFd>);

impl Descriptor {
    /// Makes the end of a pipe or terminal non-blocking and watches it.
    pub(super) fn new(descriptor: OwnedFd, interest: Interest) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&descriptor, true)?;
        Ok(Self(async_fd::register(descriptor, interest)?))
    }

    /// Reads the available bytes; 0 at the end. A terminal ends with `EIO`, when
    /// no process has it open. Cancel safe.
    pub(super) async fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.0.async_io(Interest::READABLE, |descriptor| {
            Ok(rustix::io::read(descriptor, &mut *buffer)?)
        });
        match read.await {
            Err(error) if error.raw_os_error() == Some(EIO) => Ok(0),
            read => read,
        }
    }

    /// Writes at least one byte and returns how many. Cancel safe.
    pub(super) async fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.0
            .async_io(Interest::WRITABLE, |descriptor| {
                Ok(rustix::io::write(descriptor, bytes)?)
            })
            .await
    }
}

const EIO: i32 = rustix::io::Errno::IO.raw_os_error();

impl AsFd for Descriptor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.get_ref().as_fd()
    }
}
