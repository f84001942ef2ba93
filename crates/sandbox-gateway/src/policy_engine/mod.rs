//! The policy engine decides each flow and each DNS question of the guest.
//!
//! It holds the policy, the allowlist, the names from DNS, the resolver and the access log. No
//! other code uses them. The gateway and the proxy use the policy engine.

mod answer;
mod config;
mod dial;
mod engine;
mod verdicts;

#[cfg(test)]
mod tests;

pub use config::{Mode, PolicyEngineConfig};
pub use dial::{DialError, ResolveError, Resolved};
pub use engine::{HOST_NAME, PolicyEngine};
pub use verdicts::Destination;
