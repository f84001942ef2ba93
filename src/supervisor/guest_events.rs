//! The host's end of the guest's event port.

use std::io;
use std::path::Path;

use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;

use sandbox_protocol::guest_event::{EventReader, GuestEvent};

/// A reader of guest events.
pub(super) struct GuestEvents {
    stream: UnixStream,
    reader: EventReader,
    arrived: std::vec::IntoIter<GuestEvent>,
}

impl GuestEvents {
    /// Connects to the socket on which QEMU listens.
    pub(super) async fn connect(socket: &Path) -> io::Result<Self> {
        Ok(Self {
            stream: UnixStream::connect(socket).await?,
            reader: EventReader::default(),
            arrived: Vec::new().into_iter(),
        })
    }

    /// Returns the next event; `None` once QEMU has ended. Safe to cancel.
    pub(super) async fn next(&mut self) -> Option<GuestEvent> {
        loop {
            if let Some(event) = self.arrived.next() {
                return Some(event);
            }
            let mut buffer = [0; 1024];
            match self.stream.read(&mut buffer).await {
                Ok(0) | Err(_) => return None,
                Ok(count) => {
                    let bytes = buffer.get(..count).unwrap_or_default();
                    self.arrived = self.reader.feed(bytes).into_iter();
                }
            }
        }
    }
}
