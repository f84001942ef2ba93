//! The heart: what a sandbox is, the plan of its start, the supervisor that
//! owns it while it runs, and how commands find, start and stop it.
//!
//! May use every room below it (image, qemu, guest, share, ssh, console,
//! host). Used by the commands; it knows nothing of arguments or of printing.

pub mod leftovers;
pub mod lifecycle;
mod network;
mod plan;
mod spec;
mod state;
pub mod supervisor;
pub mod templates;

pub use network::NetworkSpec;
pub use plan::{
    BootImage, ColdStart, HostSetup, MachineShape, PlanError, StartPlan, TemplateFiles,
    TemplatePlan, TemplateTarget, WarmStart,
};
pub use spec::{HostCapacity, Lifetime, SandboxSpec, SpecError, shareable_directory};
pub use state::StateLayout;
