//! QEMU: its command line, its monitor, its disk format.
//!
//! Knows nothing of sandboxes: it turns a machine into a command line and speaks to the QEMU
//! that runs it. The library `sandbox` decides what to run.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod accelerator;
pub mod argv;
pub mod discard_filter;
pub mod migration;
pub mod overlay;
pub mod program;
pub mod qmp;

mod probe_cache;
