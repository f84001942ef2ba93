//! Shared by the VM tests: an image that is built once, hosts with private homes,
//! commands whose output can be followed, and terminals.

mod cargo;
mod checks;
mod host;
mod image;
mod namespace;
mod running;
mod slots;
mod stock;
mod terminal;
mod tools;

use std::fmt::Display;
use std::time::{Duration, Instant};

pub(crate) use cargo::{build, target_directory};
pub(crate) use checks::{Check, run_checks};
pub(crate) use host::Host;
pub(crate) use image::{IMAGE, store as image_store};
pub(crate) use namespace::Namespace;
pub(crate) use running::Running;
pub(crate) use stock::Stock;
pub(crate) use terminal::Terminal;
pub(crate) use tools::Tools;

/// How long any wait may take. Only a hang reaches it, even on a busy host under
/// emulation.
pub(crate) const DEADLINE: Duration = Duration::from_secs(240);

/// Waits until `condition` returns a value.
#[track_caller]
pub(crate) fn eventually<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    eventually_or_report(what, || condition().ok_or(""))
}

/// Waits until `condition` returns a value. At the deadline, it panics with the last
/// error of `condition`.
#[track_caller]
pub(crate) fn eventually_or_report<T, S: Display>(
    what: &str,
    condition: impl FnMut() -> Result<T, S>,
) -> T {
    eventually_within(DEADLINE, what, condition)
}

/// Like [`eventually_or_report`], with another deadline.
#[track_caller]
pub(crate) fn eventually_within<T, S: Display>(
    patience: Duration,
    what: &str,
    mut condition: impl FnMut() -> Result<T, S>,
) -> T {
    let deadline = Instant::now() + patience;
    loop {
        let seen = match condition() {
            Ok(value) => return value,
            Err(seen) => seen,
        };
        assert!(
            Instant::now() < deadline,
            "waited {} s for {what}\n{seen}",
            patience.as_secs()
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}
