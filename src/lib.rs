//! A virtual machine of its own for a project directory.
//!
//! The library behind the `sandbox` command. Data flows one way: settings
//! become a [`SandboxSpec`], the specification becomes a
//! [`StartPlan`] (a pure value: paths, seed, the QEMU command line),
//! a supervisor carries the plan out, and sessions enter the running
//! guest. `ARCHITECTURE.md` explains the modules and their order.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod agent;
pub mod console;
pub mod doctor;
pub mod guest;
pub mod leftovers;
pub mod lifecycle;
mod network;
mod plan;
pub mod session;
pub mod share;
mod spec;
pub mod ssh;
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
