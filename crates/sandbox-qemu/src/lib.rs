//! QEMU: its command line, its monitor, its accelerators and its disk format.
//!
//! This crate knows nothing about sandboxes. It turns the description of a machine into a command
//! line, and talks to the QEMU that runs it. The library `sandbox` describes the machine.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod accelerator;
pub mod arch;
pub mod argv;
pub mod discard_filter;
pub mod migration;
pub mod overlay;
pub mod program;
pub mod qmp;
pub mod working_set;

mod probe_cache;
