//! Requests to the gateway of a running sandbox.

use crate::output::Report;
use sandbox::Found;
use sandbox_protocol::control::ask_gateway;
use sandbox_protocol::gateway::{GatewayCommand, GatewayReply};

/// Sends a command to the gateway. A refusal is an error.
pub(super) async fn ask(found: &Found, command: GatewayCommand) -> Result<GatewayReply, Report> {
    let answer = ask_gateway(&found.layout.control_socket(), command).await;
    let answer = answer.map_err(|error| {
        Report::new(
            format!("sandbox `{}` does not answer: {error}", found.name),
            Some(format!("run `sandbox logs --supervisor {}`", found.name).into()),
        )
    })?;
    match answer {
        GatewayReply::Refused { message, hint } => Err(Report::new(message, hint)),
        answer => Ok(answer),
    }
}
