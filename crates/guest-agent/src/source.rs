//! The source directory of the guest agent, for the build script of `sandbox-store`.
//!
//! The agent is always a static program, independent of the profile and the target of the host's
//! crates. So that script runs cargo on this directory.

/// The directory with the agent's `Cargo.toml`.
pub const DIRECTORY: &str = env!("CARGO_MANIFEST_DIR");
