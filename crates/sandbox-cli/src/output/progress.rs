//! Progress of a wait.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// The interval of the spinner.
const TICK: Duration = Duration::from_millis(100);

/// Shows the current step: as one moving line, as one line per step, or not at all.
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
    /// Creates a progress that shows nothing.
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

    /// Shows a new step.
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

    /// Shows a detail of the current step. Line output omits it, since there are too many.
    pub(crate) fn detail(&mut self, message: &str) {
        if let Kind::Moving(bar) = &self.kind {
            bar.set_message(format!("{}: {message}", self.last));
        }
    }

    /// Calls `print` with the moving line hidden.
    pub(crate) fn suspend(&self, print: impl FnOnce()) {
        match &self.kind {
            Kind::Moving(bar) => bar.suspend(print),
            _ => print(),
        }
    }

    /// Removes the moving line.
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
