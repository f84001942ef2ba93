//! Several checks of one machine.

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
        if result.is_err() {
            failed.push(*promise);
        }
    }
    assert!(failed.is_empty(), "these do not hold: {failed:#?}");
}
