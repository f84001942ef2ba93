//! Requests that one answer settles.

use agent_protocol::frame::{GuestFrame, HostFrame};
use agent_protocol::message::{Request, Response};
use tokio::io::{AsyncRead, AsyncWrite};

use super::error::AgentError;
use super::frames::{FromAgent, ToAgent};

/// Sends `request` on a stream of its own and gives the answer, for which it waits as long as that
/// takes.
///
/// # Errors
/// When the stream breaks, what comes is no answer, or the agent refuses.
pub async fn ask<S: AsyncRead + AsyncWrite>(
    stream: S,
    request: Request,
) -> Result<Response, AgentError> {
    let (reader, writer) = tokio::io::split(stream);
    let mut to_agent = ToAgent::new(Box::pin(writer));
    // Why it cannot be sent is told by the way back.
    let _ = to_agent.send(&HostFrame::Request(request)).await;
    match FromAgent::new(Box::pin(reader)).next().await? {
        GuestFrame::Response(Response::Refused(refusal)) => Err(AgentError::refused(refusal)),
        GuestFrame::Response(response) => Ok(response),
        _ => Err(AgentError::Unexpected),
    }
}
