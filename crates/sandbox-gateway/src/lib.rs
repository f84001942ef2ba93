//! The guest's network: who may talk to whom, and what carries it.
//!
//! The guest's network card is a socket of the supervisor, which ends every flow of the guest in
//! user space and asks [`policy_engine::PolicyEngine`], the one place that decides. It may use `host`; the
//! supervisor and the commands use it.
//!
//! Everything that the guest sends is hostile: whatever it can make grow is bounded.

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
