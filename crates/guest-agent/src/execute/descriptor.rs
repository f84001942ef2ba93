//! Our ends of a program's pipes and terminal.

use std::io;

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::async_fd;

/// A descriptor that does not block.
#[derive(Debug)]
pub(super) struct Descriptor(AsyncFd<OwnedFd>);

impl Descriptor {
    /// Takes a pipe's end or a terminal's, which is made non-blocking.
    pub(super) fn new(descriptor: OwnedFd, interest: Interest) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&descriptor, true)?;
        Ok(Self(async_fd::register(descriptor, interest)?))
    }

    /// Reads what is there; 0 at the end, which for a terminal is that no
    /// process has it open any more (`EIO`). May be cancelled.
    pub(super) async fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.0.async_io(Interest::READABLE, |descriptor| {
            Ok(rustix::io::read(descriptor, &mut *buffer)?)
        });
        match read.await {
            Err(error) if error.raw_os_error() == Some(EIO) => Ok(0),
            read => read,
        }
    }

    /// Writes some of it. May be cancelled.
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
