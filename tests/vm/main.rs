//! Real virtual machines, as a user starts, enters and stops them.
//!
//! A boot takes most of a test's time, so a test starts one machine and runs a list
//! of named checks in it. Anything that ends or breaks a machine is a separate test.
//! No test asserts a duration. Tests wait for events, and only a hang reaches the
//! deadlines.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is how a test fails")]

mod harness;

mod access;
mod boot;
mod cloud_init;
mod failures;
mod full_disk;
mod guest;
mod image_build;
mod interrupts;
mod kvm;
mod library;
mod network;
mod proxy_guest;
mod run;
mod sessions;
mod stock;
mod templates;
mod workspace;

/// The program under test.
const PROGRAM: &str = env!("CARGO_BIN_EXE_sandbox");
