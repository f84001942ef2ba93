//! The two directions of one stream, in frames.

use std::io;

use futures_util::{SinkExt, StreamExt};
use sandbox_protocol::agent::frame::{self, GuestFrame, HostFrame};
use sandbox_protocol::agent::mux::Stream;
use tokio::io::{ReadHalf, WriteHalf};
use tokio_util::codec::{FramedRead, FramedWrite, LengthDelimitedCodec};

/// Frames of the host.
pub(crate) struct FromHost(FramedRead<ReadHalf<Stream>, LengthDelimitedCodec>);

/// Frames for the host.
pub(crate) struct ToHost(FramedWrite<WriteHalf<Stream>, LengthDelimitedCodec>);

/// Takes a stream apart.
pub(crate) fn split(stream: Stream) -> (FromHost, ToHost) {
    let (reader, writer) = tokio::io::split(stream);
    (
        FromHost(FramedRead::new(reader, frame::host_codec())),
        ToHost(FramedWrite::new(writer, frame::guest_codec())),
    )
}

impl FromHost {
    /// The next frame; `None` at the end of the stream, or of its sense. May
    /// be cancelled.
    pub(crate) async fn next(&mut self) -> Option<HostFrame> {
        let bytes = self.0.next().await?.ok()?;
        HostFrame::decode(&bytes.freeze()).ok()
    }
}

impl ToHost {
    /// Sends a frame. Cancelled, it leaves half a frame behind.
    pub(crate) async fn send(&mut self, frame: GuestFrame) -> io::Result<()> {
        self.0.send(frame.encode()).await
    }

    /// Ends this direction.
    pub(crate) async fn close(&mut self) {
        // Without a stream there is nothing to end.
        let _ = SinkExt::<bytes::Bytes>::close(&mut self.0).await;
    }
}
