//! What is being waited for.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How often a spinner moves.
const TICK: Duration = Duration::from_millis(100);

/// Shows the step under way: as one moving line, as a line a step, or not.
pub(crate) struct Progress {
    kind: Kind,
    last: String,
}

enum Kind {
    Silent,
    Lines,
    Moving(ProgressBar),
}

impl Progress {
    /// Shows nothing.
    pub(crate) fn silent() -> Self {
        Self::new(Kind::Silent)
    }

    pub(super) fn lines() -> Self {
        Self::new(Kind::Lines)
    }

    pub(super) fn moving() -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        bar.set_style(
            ProgressStyle::with_template("{spinner:.cyan} {msg} {elapsed:.dim}")
                .expect("the template is well-formed"),
        );
        bar.enable_steady_tick(TICK);
        Self::new(Kind::Moving(bar))
    }

    fn new(kind: Kind) -> Self {
        Self {
            kind,
            last: String::new(),
        }
    }

    /// Says what goes on now.
    pub(crate) fn step(&mut self, message: &str) {
        if message == self.last {
            return;
        }
        message.clone_into(&mut self.last);
        match &self.kind {
            Kind::Silent => {}
            Kind::Lines => {
                use std::io::Write;
                drop(writeln!(anstream::stderr().lock(), "{message}"));
            }
            Kind::Moving(bar) => bar.set_message(message.to_owned()),
        }
    }

    /// Says how far the step under way is. As lines, that would be too many.
    pub(crate) fn detail(&mut self, message: &str) {
        if let Kind::Moving(bar) = &self.kind {
            bar.set_message(format!("{}: {message}", self.last));
        }
    }

    /// Prints a line past the moving one.
    pub(crate) fn suspend(&self, print: impl FnOnce()) {
        match &self.kind {
            Kind::Moving(bar) => bar.suspend(print),
            _ => print(),
        }
    }

    /// Takes the moving line away.
    pub(crate) fn finish(self) {
        drop(self);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Kind::Moving(bar) = &self.kind {
            bar.finish_and_clear();
        }
    }
}
