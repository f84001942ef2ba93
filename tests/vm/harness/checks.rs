//! Several checks that share one machine.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use super::Host;

/// The title of a check, and the function that panics if the check fails.
pub(crate) type Check<Subject = Host> = (&'static str, fn(&Subject));

/// Runs every check, even after one has failed, and prints each result.
#[track_caller]
pub(crate) fn run_checks<Subject>(subject: &Subject, checks: &[Check<Subject>]) {
    let mut failed = Vec::new();
    for (title, check) in checks {
        let begin = Instant::now();
        let result = catch_unwind(AssertUnwindSafe(|| check(subject)));
        let verdict = if result.is_ok() { "ok" } else { "FAILED" };
        eprintln!(
            "    {title}: {verdict}, {:.1} s",
            begin.elapsed().as_secs_f32()
        );
        if let Err(payload) = result {
            failed.push(format!("{title}: {}", message(payload.as_ref())));
        }
    }
    assert!(failed.is_empty(), "failed checks:\n{}", failed.join("\n"));
}

/// Returns the message of a panic. `panic!` gives a `String` or a `&str`.
fn message(payload: &(dyn Any + Send)) -> &str {
    payload
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| payload.downcast_ref::<&str>().copied())
        .unwrap_or("(no message)")
}
