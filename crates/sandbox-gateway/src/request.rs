//! Requests to a running gateway.

use sandbox_protocol::gateway::{GatewayCommand, GatewayReply};
use tokio::sync::oneshot;

/// A command for the gateway's thread. Dropping the request without a reply rejects it.
#[derive(Debug)]
pub struct GatewayRequest {
    /// The command.
    pub command: GatewayCommand,
    /// Receives the reply.
    pub reply: oneshot::Sender<GatewayReply>,
}
