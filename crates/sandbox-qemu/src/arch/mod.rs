//! The parts that depend on the processor architecture: QEMU's program, machine type and processor
//! model, the addresses of its memory, the test guest of the KVM probe, the reading of
//! `/proc/cpuinfo`, and the registers of a thread.
//!
//! The guest has the host's architecture. Another architecture gets a sibling of `x86_64` with
//! the same names, chosen here.

mod x86_64;

pub use x86_64::processor::{Processor, Vendor};
pub use x86_64::{MACHINE, MACHINE_OPTIONS, PROGRAM, cpu_model};

pub(crate) use x86_64::remote_call::StoppedThread;
pub(crate) use x86_64::{guest_addresses, guest_code, processor};
