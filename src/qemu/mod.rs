//! QEMU: its command line, its monitor, its disk format.
//!
//! Knows nothing of sandboxes; may use [`sandbox_host`]. Used by
//! [`crate::sandbox`], which decides what to run, and by the doctor.

pub mod accelerator;
pub mod argv;
pub mod discard_filter;
pub mod migration;
pub mod overlay;
pub mod program;
pub mod qmp;

mod probe_cache;
