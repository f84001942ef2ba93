//! Requests with a single answer.

use std::path::Path;
use std::time::Duration;

use sandbox_protocol::agent::frame::{GuestFrame, HostFrame};
use sandbox_protocol::agent::message::{Request, Response, Status};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;

use super::error::AgentError;
use super::frames::{FromAgent, ToAgent};
use sandbox_host::printable::sanitize_line;

/// Sends `request` on its own stream and returns the answer. Has no deadline.
///
/// # Errors
/// Fails if the stream breaks, the answer is invalid, or the agent refuses.
pub async fn ask<S: AsyncRead + AsyncWrite>(
    stream: S,
    request: Request,
) -> Result<Response, AgentError> {
    let (reader, writer) = tokio::io::split(stream);
    let mut to_agent = ToAgent::new(Box::pin(writer));
    // If sending fails, reading returns the reason.
    let _ = to_agent.send(&HostFrame::Request(request)).await;
    match FromAgent::new(Box::pin(reader)).next().await? {
        GuestFrame::Response(Response::Refused(refusal)) => Err(AgentError::refused(refusal)),
        GuestFrame::Response(response) => Ok(response),
        _ => Err(AgentError::Unexpected),
    }
}

/// How long the agent may take to report the guest's state.
const STATUS_DEADLINE: Duration = Duration::from_secs(3);

/// Returns the guest's state, through the supervisor that listens at `socket`. Removes control
/// characters from the guest's texts.
///
/// # Errors
/// Fails if the agent cannot be reached, or does not answer in time.
pub(crate) async fn status(socket: &Path) -> Result<Status, AgentError> {
    let asked = async {
        let connected = UnixStream::connect(socket).await;
        let stream = connected.map_err(|source| AgentError::Connect {
            socket: socket.into(),
            source,
        })?;
        match ask(stream, Request::Status).await? {
            Response::Status(status) => Ok(Status {
                kernel: sanitize_line(status.kernel.as_bytes(), LONGEST_WORD),
                addresses: status
                    .addresses
                    .iter()
                    .take(MOST_ADDRESSES)
                    .map(|address| sanitize_line(address.as_bytes(), LONGEST_WORD))
                    .collect(),
                ..status
            }),
            _ => Err(AgentError::Unexpected),
        }
    };
    tokio::time::timeout(STATUS_DEADLINE, asked)
        .await
        .unwrap_or(Err(AgentError::Deadline {
            waited: STATUS_DEADLINE,
        }))
}

/// The maximum length of one of the guest's texts, in characters.
const LONGEST_WORD: usize = 64;

/// The maximum number of addresses.
const MOST_ADDRESSES: usize = 16;
