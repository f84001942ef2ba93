//! Shared by the benches: the programs under test, their timing, and the report.

mod program;
mod report;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use sandbox_spec::Accelerator;

pub(crate) use program::Program;
pub(crate) use report::ReportOptions;

pub(crate) type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Returns the root of the repository.
pub(crate) fn repository() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = package.ancestors().nth(2);
    root.expect("the package is in `crates/`").to_owned()
}

/// Returns the duration of the command, which must succeed.
pub(crate) fn time(command: &mut Command) -> Result<Duration> {
    let started = Instant::now();
    match command.status()? {
        status if status.success() => Ok(started.elapsed()),
        status => Err(format!("{command:?} ended with {status}").into()),
    }
}

/// Returns the order of `count` measurements in a run, which counts from 1. Every second run
/// reverses it, so that none always follows the same other.
pub(crate) fn turns(run: usize, count: usize) -> Vec<usize> {
    match run % 2 {
        0 => (0..count).rev().collect(),
        _ => (0..count).collect(),
    }
}

/// Returns the accelerator that sandboxes use on this host.
pub(crate) fn accelerator() -> Accelerator {
    match sandbox_qemu::accelerator::probe_kvm().is_usable() {
        true => Accelerator::Kvm,
        false => Accelerator::Tcg,
    }
}
