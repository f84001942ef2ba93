//! Commands on their way to a running gateway.

use sandbox_protocol::gateway::{GatewayCommand, GatewayReply};
use tokio::sync::oneshot;

/// A command on its way to the gateway's thread. Dropping it without an answer refuses it.
#[derive(Debug)]
pub struct GatewayRequest {
    /// What is wanted.
    pub command: GatewayCommand,
    /// Takes the answer.
    pub reply: oneshot::Sender<GatewayReply>,
}
