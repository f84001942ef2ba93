//! The frames of one stream, in both directions.

use std::io;

use futures_util::{SinkExt, StreamExt};
use sandbox_protocol::agent::frame::{self, GuestFrame, HostFrame};
use sandbox_protocol::agent::mux::Stream;
use tokio::io::{ReadHalf, WriteHalf};
use tokio_util::codec::{FramedRead, FramedWrite, LengthDelimitedCodec};

/// Receives frames from the host.
pub(crate) struct FromHost(FramedRead<ReadHalf<Stream>, LengthDelimitedCodec>);

/// Sends frames to the host.
pub(crate) struct ToHost(FramedWrite<WriteHalf<Stream>, LengthDelimitedCodec>);

/// Splits a stream into its two directions.
pub(crate) fn split(stream: Stream) -> (FromHost, ToHost) {
    let (reader, writer) = tokio::io::split(stream);
    (
        FromHost(FramedRead::new(reader, frame::host_codec())),
        ToHost(FramedWrite::new(writer, frame::guest_codec())),
    )
}

impl FromHost {
    /// Returns the next frame, or `None` at the end of the stream or after an
    /// invalid frame. Cancel safe.
    pub(crate) async fn next(&mut self) -> Option<HostFrame> {
        let bytes = self.0.next().await?.ok()?;
        HostFrame::decode(&bytes.freeze()).ok()
    }
}

impl ToHost {
    /// Sends a frame. Not cancel safe: it may leave a partial frame.
    pub(crate) async fn send(&mut self, frame: GuestFrame) -> io::Result<()> {
        self.0.send(frame.encode()).await
    }

    /// Closes this direction.
    pub(crate) async fn close(&mut self) {
        // The host may have closed the stream.
        let _ = SinkExt::<bytes::Bytes>::close(&mut self.0).await;
    }
}
