//! Requests of commands to a running gateway.

use std::future::pending;
use std::rc::Rc;

use tokio::sync::mpsc;

use super::core::{Core, destination};
use super::datagrams::Kind;
use super::ports::PortError;
use crate::request::GatewayRequest;
use sandbox_protocol::gateway::{GatewayCommand, GatewayReply};
use sandbox_spec::policy::{Transport, Verdict};

impl Core {
    /// Answers requests. Never returns.
    pub(super) async fn obey(
        self: &Rc<Self>,
        requests: &mut mpsc::UnboundedReceiver<GatewayRequest>,
    ) {
        while let Some(GatewayRequest { command, reply }) = requests.recv().await {
            // The sender of the request may be gone.
            let _ = reply.send(self.answer(command));
        }
        // Without senders, the guest still needs its network.
        pending().await
    }

    fn answer(self: &Rc<Self>, command: GatewayCommand) -> GatewayReply {
        match command {
            GatewayCommand::AllowOnce { pattern } => {
                self.policy_engine.allow_until_stop(pattern);
                GatewayReply::Done
            }
            GatewayCommand::Cut => {
                self.cut();
                GatewayReply::Done
            }
            GatewayCommand::PortAdd { port } => match self.add_port(&port) {
                Ok(port) => GatewayReply::Ports { ports: vec![port] },
                Err(error) => refusal(&error),
            },
            GatewayCommand::PortRemove { port } => match self.remove_port(&port) {
                Ok(()) => GatewayReply::Done,
                Err(error) => refusal(&error),
            },
            GatewayCommand::PortList => GatewayReply::Ports {
                ports: self.list_ports(),
            },
            _ => GatewayReply::Refused {
                message: "unknown gateway command".into(),
                hint: None,
            },
        }
    }

    /// Ends all flows that the policy no longer allows.
    pub(super) fn cut(&self) {
        self.datagrams.end(|pair| {
            let transport = match pair.kind {
                Kind::Udp => Transport::Udp,
                Kind::Echo => Transport::Icmp,
            };
            let verdict = self
                .policy_engine
                .outbound(&destination(pair.remote, transport));
            !matches!(verdict, Verdict::Allow { .. })
        });
        self.policy_engine.recheck_connections();
    }
}

fn refusal(error: &PortError) -> GatewayReply {
    let causes = std::error::Error::source(error).map(|cause| format!(": {cause}"));
    GatewayReply::Refused {
        message: format!("{error}{}", causes.unwrap_or_default()),
        hint: error.hint(),
    }
}
