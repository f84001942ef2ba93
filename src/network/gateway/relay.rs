//! Bytes between a connection of the guest's and one of the host's.

use std::future::{Future, poll_fn};
use std::io;
use std::task::Poll;

use tokio::net::TcpStream;

use super::shaper::Shaper;
use super::tcp::GuestStream;
use crate::network::access_log::FlowEntry;

/// Passes bytes on in both directions until both have ended, `cut` has come,
/// or one end was reset: then the other is, too.
pub(super) async fn relay(
    guest: &GuestStream,
    host: &TcpStream,
    shaper: &Shaper,
    entry: Option<&FlowEntry>,
    cut: impl Future<Output = ()>,
) {
    let both = async {
        tokio::try_join!(
            up(guest, host, shaper, entry),
            down(guest, host, shaper, entry)
        )
    };
    let whole = tokio::select! {
        ended = both => ended.is_ok(),
        () = cut => false,
    };
    if !whole {
        guest.reset();
        // Closing then resets. It cannot fail on a socket that is open.
        let _ = rustix::net::sockopt::set_socket_linger(host, Some(std::time::Duration::ZERO));
    }
}

/// From the guest to the host.
async fn up(
    guest: &GuestStream,
    host: &TcpStream,
    shaper: &Shaper,
    entry: Option<&FlowEntry>,
) -> io::Result<()> {
    loop {
        host.writable().await?;
        let taken = poll_fn(|context| {
            guest.poll_take(context, |bytes| match host.try_write(bytes) {
                Ok(taken) => (taken, Ok(taken)),
                Err(error) => (0, Err(error)),
            })
        });
        match taken.await? {
            Some(Ok(taken)) => {
                if let Some(entry) = entry {
                    entry.add_up(taken as u64);
                }
                shaper.up(taken).await;
            }
            Some(Err(error)) if error.kind() == io::ErrorKind::WouldBlock => {}
            Some(Err(error)) => return Err(error),
            None => {
                return rustix::net::shutdown(host, rustix::net::Shutdown::Write)
                    .map_err(io::Error::from);
            }
        }
    }
}

/// From the host to the guest.
async fn down(
    guest: &GuestStream,
    host: &TcpStream,
    shaper: &Shaper,
    entry: Option<&FlowEntry>,
) -> io::Result<()> {
    loop {
        guest.writable().await?;
        // A guest that is gone must be noticed though the host says nothing.
        tokio::select! {
            readable = host.readable() => readable?,
            gone = closed(guest) => return Err(gone),
        }
        let given = poll_fn(|context| {
            guest.poll_give(context, |buffer| match host.try_read(buffer) {
                Ok(given) => (given, Ok(given)),
                Err(error) => (0, Err(error)),
            })
        });
        match given.await? {
            Ok(0) => {
                guest.finish();
                return Ok(());
            }
            Ok(given) => {
                if let Some(entry) = entry {
                    entry.add_down(given as u64);
                }
                shaper.down(given).await;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

/// Waits for the guest to reset the connection.
async fn closed(guest: &GuestStream) -> io::Error {
    poll_fn(|context| match guest.poll_closed(context) {
        true => Poll::Ready(io::ErrorKind::ConnectionReset.into()),
        false => Poll::Pending,
    })
    .await
}
