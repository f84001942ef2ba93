//! Commands to a running gateway, and its replies.

use sandbox_host::hint::Hint;
use sandbox_spec::domain::DomainPattern;
use sandbox_spec::publish::PublishedPort;
use serde::{Deserialize, Serialize};

/// A command to the gateway of a running sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum GatewayCommand {
    /// Allow names in addition to the allowlist until the sandbox stops.
    AllowOnce {
        /// The names.
        pattern: DomainPattern,
    },
    /// Close the connections that are no longer allowed.
    Cut,
    /// Forward a host port to the guest.
    PortAdd {
        /// The port.
        port: PublishedPort,
    },
    /// Stop forwarding a host port.
    PortRemove {
        /// The port as in the reply to [`GatewayCommand::PortList`].
        port: PublishedPort,
    },
    /// List the published ports.
    PortList,
}

/// A supervisor's reply to a [`GatewayCommand`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum GatewayReply {
    /// The gateway carried out the command.
    Done,
    /// All published ports. After [`GatewayCommand::PortAdd`] the new port only, with the number
    /// that the system chose for port 0.
    Ports {
        /// The ports.
        ports: Vec<PublishedPort>,
    },
    /// The gateway could not carry out the command.
    Refused {
        /// The error.
        message: String,
        /// The next step for the user.
        hint: Option<Hint>,
    },
}
