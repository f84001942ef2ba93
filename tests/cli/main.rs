//! Tests of the whole binary as a user runs it, without a virtual machine.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is how a test fails")]

mod compatibility;
mod doctor;
mod dry_run;
mod help;
mod images;
mod nothing_runs;
mod printing;
mod proxy;
mod qemu;
mod stale;
mod templates;
mod transcript;
mod values;
mod workspace;

/// The program under test.
const PROGRAM: &str = env!("CARGO_BIN_EXE_sandbox");
