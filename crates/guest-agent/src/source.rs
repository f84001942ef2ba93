//! Where the source of the guest agent lies, for the build script of `sandbox-store`.
//!
//! The agent is compiled as a static program, whatever the profile and the target of the host's
//! crates are, so that script runs cargo on this directory.

/// The directory with the agent's `Cargo.toml`.
pub const DIRECTORY: &str = env!("CARGO_MANIFEST_DIR");
