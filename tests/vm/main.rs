//! Real virtual machines, as a user starts, enters and stops them.
//!
//! A boot takes most of a test's time, so one test is one machine: what a
//! theme promises about it is a list of named checks that share it. Whatever
//! ends or breaks a machine is a test of its own. Nothing timed is asserted;
//! waits are for events, with deadlines that only a hang reaches.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is how a test fails")]

#[path = "../support/mod.rs"]
mod support;

mod harness;

mod access;
mod boot;
mod cloud_init;
mod failures;
mod full_disk;
mod guest;
mod image_build;
mod interrupts;
mod library;
mod network;
mod proxy_guest;
mod run;
mod sessions;
mod stock;
mod templates;
mod workspace;
