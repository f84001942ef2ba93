//! What commands want of a running gateway, and its answers.

use sandbox_host::hint::Hint;
use sandbox_spec::domain::DomainPattern;
use sandbox_spec::publish::PublishedPort;
use serde::{Deserialize, Serialize};

/// What a command asks of a running sandbox's network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "kebab-case")]
pub enum GatewayCommand {
    /// Allow names beyond the list until the sandbox stops.
    AllowOnce {
        /// The names.
        pattern: DomainPattern,
    },
    /// End running connections that are no longer allowed.
    Cut,
    /// Lead a port of the host into the guest.
    PortAdd {
        /// The port.
        port: PublishedPort,
    },
    /// Close such a port.
    PortRemove {
        /// The port as [`GatewayCommand::PortList`] tells it.
        port: PublishedPort,
    },
    /// Tell the published ports.
    PortList,
}

/// A supervisor's answer to a [`GatewayCommand`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "kebab-case")]
pub enum GatewayReply {
    /// It is done.
    Done,
    /// The published ports; after [`GatewayCommand::PortAdd`] the one that is open now, with the
    /// number that the system chose where any was asked for.
    Ports {
        /// The ports.
        ports: Vec<PublishedPort>,
    },
    /// It cannot be done.
    Refused {
        /// Why.
        message: String,
        /// What the user can do about it.
        hint: Option<Hint>,
    },
}
