//! Several checks of one machine.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use super::Host;

/// What is promised, in words, and the function that fails if it does not hold.
pub(crate) type Check = (&'static str, fn(&Host));

/// Runs every check, also after one has failed, and tells each result.
#[track_caller]
pub(crate) fn run_checks(host: &Host, checks: &[Check]) {
    let mut failed = Vec::new();
    for (promise, check) in checks {
        let begin = Instant::now();
        let result = catch_unwind(AssertUnwindSafe(|| check(host)));
        let verdict = if result.is_ok() { "ok" } else { "FAILED" };
        eprintln!(
            "    {promise}: {verdict}, {:.1} s",
            begin.elapsed().as_secs_f32()
        );
        if let Err(payload) = result {
            failed.push(format!("{promise}: {}", message(payload.as_ref())));
        }
    }
    assert!(
        failed.is_empty(),
        "these do not hold:\n{}",
        failed.join("\n")
    );
}

/// What a panic said; both forms are those of `std::panic::panic_any`'s callers.
fn message(payload: &(dyn Any + Send)) -> &str {
    payload
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| payload.downcast_ref::<&str>().copied())
        .unwrap_or("(no message)")
}
