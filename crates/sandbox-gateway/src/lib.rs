//! The guest's network: the gateway, its policy engine, DNS, the proxy and TLS interception.
//!
//! The guest's network card is a socket of the supervisor. [`gateway::Gateway`] terminates all
//! flows of the guest in user space, and [`policy_engine::PolicyEngine`] decides about each of
//! them. The crate uses `sandbox-spec`, `sandbox-protocol` and `sandbox-host`. The supervisor and
//! the commands use the crate.
//!
//! The guest is hostile: everything that its packets can make grow has a limit.

pub mod access_log;
pub mod allowlist;
pub mod dns;
pub mod error;
pub mod gateway;
pub mod host_addresses;
pub mod interception;
pub mod names;
pub mod policy_engine;
pub mod proxy;
pub mod request;
pub mod resolver;
