//! The frames of one stream.
//!
//! A frame is its length (four bytes, big endian, not counting itself), one
//! byte for its kind, and its content. The content is postcard
//! (<https://postcard.jamesmunns.com/wire-format>) or, for data, raw bytes.
//!
//! The first frame of the host is a [`Request`]. More frames of the host
//! follow only after [`Request::Execute`].

use bytes::{BufMut, Bytes, BytesMut};
use tokio_util::codec::LengthDelimitedCodec;

use crate::agent::message::{Request, Response, Size};

/// The maximum data in one frame, in bytes.
pub const DATA_LIMIT: usize = 32 << 10;

/// The maximum unacknowledged input, in bytes: the host has sent it, and no
/// [`GuestFrame::InputTaken`] covers it yet.
///
/// Resizes, signals and the end of the stream travel behind the input. So the
/// agent always reads, even if the program does not, and buffers this much.
pub const INPUT_WINDOW: usize = 128 << 10;

/// The longest frame that the host accepts, in bytes: data, or a response with
/// text.
pub const GUEST_FRAME_LIMIT: usize = DATA_LIMIT + 1;

/// The longest frame that the agent accepts, in bytes: a seed or a command
/// line. With the default stack limit, Linux accepts at most 2 MiB of
/// arguments (execve(2)).
pub const HOST_FRAME_LIMIT: usize = 4 << 20;

/// A frame from the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostFrame {
    /// The first frame of a stream.
    Request(Request),
    /// Input for the program, within the [`INPUT_WINDOW`].
    Input(Bytes),
    /// The end of the input.
    InputEnd,
    /// A new terminal size.
    Resize(Size),
    /// A signal number for the program's process group.
    Signal(u8),
}

/// A frame from the agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GuestFrame {
    /// An answer to the request.
    Response(Response),
    /// Output of the program, or of its terminal.
    Output(Bytes),
    /// Error output of the program.
    ErrorOutput(Bytes),
    /// The number of bytes that the program has read since the last such frame,
    /// or will never read. The agent sends it at the latest after a quarter of
    /// the [`INPUT_WINDOW`].
    InputTaken(u32),
}

/// An invalid frame.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The frame has no kind byte.
    #[error("empty frame")]
    Empty,
    /// The kind byte is unknown.
    #[error("unknown frame kind {0}")]
    Kind(u8),
    /// The content does not match the kind.
    #[error("invalid frame content")]
    Content(#[from] postcard::Error),
}

const MESSAGE: u8 = 0;
const DATA: u8 = 1;
const ERROR_DATA: u8 = 2;
const INPUT_END: u8 = 3;
const RESIZE: u8 = 4;
const SIGNAL: u8 = 5;
const INPUT_TAKEN: u8 = 6;

/// Returns the codec for frames from the agent.
pub fn guest_codec() -> LengthDelimitedCodec {
    LengthDelimitedCodec::builder()
        .max_frame_length(GUEST_FRAME_LIMIT)
        .new_codec()
}

/// Returns the codec for frames from the host.
pub fn host_codec() -> LengthDelimitedCodec {
    LengthDelimitedCodec::builder()
        .max_frame_length(HOST_FRAME_LIMIT)
        .new_codec()
}

impl HostFrame {
    /// Encodes the frame, without its length.
    pub fn encode(&self) -> Bytes {
        match self {
            Self::Request(request) => serialized(MESSAGE, request),
            Self::Input(data) => with_kind(DATA, data),
            Self::InputEnd => with_kind(INPUT_END, &[]),
            Self::Resize(size) => serialized(RESIZE, size),
            Self::Signal(number) => with_kind(SIGNAL, &[*number]),
        }
    }

    /// Decodes a frame, without its length.
    ///
    /// # Errors
    /// When the bytes are not a valid frame.
    pub fn decode(frame: &Bytes) -> Result<Self, FrameError> {
        let (kind, content) = split(frame)?;
        Ok(match kind {
            MESSAGE => Self::Request(postcard::from_bytes(&content)?),
            DATA => Self::Input(content),
            INPUT_END => Self::InputEnd,
            RESIZE => Self::Resize(postcard::from_bytes(&content)?),
            SIGNAL => Self::Signal(postcard::from_bytes(&content)?),
            unknown => return Err(FrameError::Kind(unknown)),
        })
    }
}

impl GuestFrame {
    /// Encodes the frame, without its length.
    pub fn encode(&self) -> Bytes {
        match self {
            Self::Response(response) => serialized(MESSAGE, response),
            Self::Output(data) => with_kind(DATA, data),
            Self::ErrorOutput(data) => with_kind(ERROR_DATA, data),
            Self::InputTaken(length) => serialized(INPUT_TAKEN, length),
        }
    }

    /// Decodes a frame, without its length.
    ///
    /// # Errors
    /// When the bytes are not a valid frame.
    pub fn decode(frame: &Bytes) -> Result<Self, FrameError> {
        let (kind, content) = split(frame)?;
        Ok(match kind {
            MESSAGE => Self::Response(postcard::from_bytes(&content)?),
            DATA => Self::Output(content),
            ERROR_DATA => Self::ErrorOutput(content),
            INPUT_TAKEN => Self::InputTaken(postcard::from_bytes(&content)?),
            unknown => return Err(FrameError::Kind(unknown)),
        })
    }
}

fn split(frame: &Bytes) -> Result<(u8, Bytes), FrameError> {
    let kind = *frame.first().ok_or(FrameError::Empty)?;
    Ok((kind, frame.slice(1..)))
}

fn with_kind(kind: u8, content: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(content.len() + 1);
    frame.put_u8(kind);
    frame.put_slice(content);
    frame.freeze()
}

fn serialized(kind: u8, value: &impl serde::Serialize) -> Bytes {
    let frame =
        postcard::to_extend(value, vec![kind]).expect("postcard can encode every message type");
    frame.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::message::{Ended, Execute, Program, Refusal};

    #[test]
    fn frames_encoded_and_decoded_are_equal() {
        let size = Size {
            rows: 24,
            columns: 80,
            pixel_width: 0,
            pixel_height: 0,
        };
        for frame in [
            HostFrame::Request(Request::Execute(Execute {
                program: Program::Words(vec![b"printf".to_vec(), vec![0xff, b'"', b'$']]),
                user: "dev".into(),
                directory: None,
                environment: vec![(b"A".to_vec(), b"".to_vec())],
                terminal: None,
            })),
            HostFrame::Request(Request::Quiesce),
            HostFrame::Input(Bytes::from_static(b"\0input")),
            HostFrame::InputEnd,
            HostFrame::Resize(size),
            HostFrame::Signal(2),
        ] {
            assert_eq!(HostFrame::decode(&frame.encode()).unwrap(), frame);
        }
        for frame in [
            GuestFrame::Response(Response::Done),
            GuestFrame::Response(Response::Ended(Ended::Killed(9))),
            GuestFrame::Response(Response::Refused(Refusal::Failed("ä".into()))),
            GuestFrame::Output(Bytes::new()),
            GuestFrame::ErrorOutput(Bytes::from_static(b"x")),
            GuestFrame::InputTaken(1 << 20),
        ] {
            assert_eq!(GuestFrame::decode(&frame.encode()).unwrap(), frame);
        }
    }

    #[test]
    fn guest_frame_from_hostile_bytes_is_an_error() {
        for bytes in [
            &b""[..],
            b"\x09",
            b"\x00",
            b"\x00\xff",
            // `Refused(Failed)` with a text of 2^64 - 1 bytes, and with one
            // that is not UTF-8.
            b"\x00\x05\x04\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
            b"\x00\x05\x04\x01\xff",
        ] {
            let frame = Bytes::copy_from_slice(bytes);
            assert!(GuestFrame::decode(&frame).is_err(), "{bytes:?}");
        }
    }
}
