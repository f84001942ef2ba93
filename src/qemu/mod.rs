//! QEMU as a program: finding it, choosing how it executes the guest, and
//! asking it things. Uses `host`; used by `sandbox` and `doctor`.

pub mod accelerator;
//pub mod program;

mod probe_cache;
