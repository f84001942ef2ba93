//! Helpers of the test programs of the command `sandbox`: private home directories, runs of
//! the command, the check that no process or file is left behind, and streams of sessions.
//!
//! Cargo tells the path of the command only to the tests and benchmarks of its package, as
//! `env!("CARGO_BIN_EXE_sandbox")`. So each test program passes the path to
//! [`TestEnvironment::new`].

#![allow(clippy::unwrap_used, reason = "a failed unwrap is how a test fails")]

mod environment;
mod kvm_bed;
mod leftovers;
mod output;
mod packages;
mod pseudoterminal;
mod script;
mod stock_machine;
mod streams;

pub use environment::TestEnvironment;
pub use kvm_bed::{BedDisk, KvmBed, RunCommands};
pub use leftovers::Process;
pub use output::{Output, shell_status};
pub use packages::{PackageSource, fetch_packages};
pub use pseudoterminal::{Pseudoterminal, TerminalModes};
pub use script::write_script;
pub use stock_machine::StockMachine;
pub use streams::{CapturedStreams, null, only_output};
