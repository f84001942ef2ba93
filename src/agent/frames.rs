//! The frames of a stream to the agent.

use std::io;

use futures_util::{SinkExt, StreamExt};
use sandbox_protocol::agent::frame::{self, GuestFrame, HostFrame};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::codec::{FramedRead, FramedWrite, LengthDelimitedCodec};

use super::error::AgentError;

/// A reader of the agent's frames.
#[derive(Debug)]
pub(crate) struct FromAgent<R>(FramedRead<R, LengthDelimitedCodec>);

impl<R: AsyncRead + Unpin> FromAgent<R> {
    pub(crate) fn new(reader: R) -> Self {
        Self(FramedRead::new(reader, frame::guest_codec()))
    }

    /// Returns the next frame. Safe to cancel.
    pub(crate) async fn next(&mut self) -> Result<GuestFrame, AgentError> {
        match self.0.next().await {
            Some(Ok(bytes)) => Ok(GuestFrame::decode(&bytes.freeze())?),
            Some(Err(error)) if error.kind() == io::ErrorKind::InvalidData => {
                Err(AgentError::TooLong(error))
            }
            Some(Err(error)) => Err(AgentError::Lost(Some(error))),
            None => Err(AgentError::Lost(None)),
        }
    }
}

/// A writer of frames to the agent.
#[derive(Debug)]
pub(crate) struct ToAgent<W>(FramedWrite<W, LengthDelimitedCodec>);

impl<W: AsyncWrite + Unpin> ToAgent<W> {
    pub(crate) fn new(writer: W) -> Self {
        Self(FramedWrite::new(writer, frame::host_codec()))
    }

    pub(crate) async fn send(&mut self, frame: &HostFrame) -> io::Result<()> {
        self.0.send(frame.encode()).await
    }
}
