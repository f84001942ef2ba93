//! What tests with virtual machines share: an image built once, hosts with
//! homes of their own, commands that can be followed while they run, and
//! terminals.

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

pub(crate) use checks::{Check, run_checks};
pub(crate) use host::{Host, explicit_environment};
pub(crate) use namespace::Namespace;
pub(crate) use running::Running;
pub(crate) use stock::Stock;
pub(crate) use terminal::Terminal;
pub(crate) use tools::Tools;

/// How long anything may take: reached by a hang and by nothing else, also on
/// a busy machine under emulation.
pub(crate) const DEADLINE: Duration = Duration::from_secs(240);

/// Waits until `condition` gives a value.
#[track_caller]
pub(crate) fn eventually<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    eventually_or_tell(what, || condition().ok_or(""))
}

/// Waits until `condition` gives a value; what it gave instead at last is told
/// if it never does.
#[track_caller]
pub(crate) fn eventually_or_tell<T, S: Display>(
    what: &str,
    mut condition: impl FnMut() -> Result<T, S>,
) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let seen = match condition() {
            Ok(value) => return value,
            Err(seen) => seen,
        };
        assert!(
            Instant::now() < deadline,
            "waited {} s for this: {what}\n{seen}",
            DEADLINE.as_secs()
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}
