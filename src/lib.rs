//! A virtual machine of its own for a project directory.
//!
//! The library behind the `sandbox` command. Data flows one way: settings
//! become a [`sandbox::SandboxSpec`], the specification becomes a
//! [`sandbox::StartPlan`] (a pure value: paths, seed, the QEMU command line),
//! a supervisor process carries the plan out, and sessions enter the running
//! guest. `ARCHITECTURE.md` explains the modules and their order.

pub mod agent;
pub mod console;
pub mod doctor;
pub mod guest;
pub mod sandbox;
pub mod session;
pub mod share;
pub mod ssh;
