//! Every byte that the product says: data on stdout, everything else on
//! stderr, with quiet and no-progress modes and colours in one place.
//!
//! Used by the commands; knows nothing of what they do.

mod hint;
mod log;
mod progress;
mod report;
mod stage;
mod table;

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};

use anstyle::{AnsiColor, Style};

pub(crate) use hint::worded_hint;
pub(crate) use log::log_to;
pub(crate) use progress::Progress;
pub(crate) use report::Report;
pub(crate) use stage::stage_words;
pub(crate) use table::Table;

/// What the user wants to see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Verbosity {
    /// Errors only.
    pub quiet: bool,
    /// Details, too.
    pub verbose: bool,
    /// No moving progress.
    pub no_progress: bool,
}

/// The printer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Printer {
    verbosity: Verbosity,
}

const ERROR: Style = AnsiColor::Red.on_default().bold();
const WARNING: Style = AnsiColor::Yellow.on_default().bold();
const HINT: Style = AnsiColor::Cyan.on_default().bold();

impl Printer {
    /// A printer. Whether colours reach a stream is decided by the `anstream`
    /// crate from the terminal, `NO_COLOR` and `--color`.
    pub(crate) fn new(verbosity: Verbosity) -> Self {
        Self { verbosity }
    }

    /// A line of data on stdout. That nobody reads it any more, as behind
    /// `| head`, is no failure.
    pub(crate) fn data(&self, line: impl Display) -> io::Result<()> {
        match writeln!(anstream::stdout().lock(), "{line}") {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            written => written,
        }
    }

    /// Data on stdout as it is, flushed; for a stream that ends when nobody
    /// reads it any more.
    pub(crate) fn raw_data(&self, text: &str) -> io::Result<()> {
        let mut stdout = io::stdout().lock();
        stdout.write_all(text.as_bytes())?;
        stdout.flush()
    }

    /// Data as JSON on stdout.
    pub(crate) fn json(&self, value: &impl serde::Serialize) -> io::Result<()> {
        self.data(serde_json::to_string_pretty(value)?)
    }

    /// A line for the person on stderr, unless quiet. A closed stderr is no
    /// reason to fail.
    pub(crate) fn notice(&self, line: impl Display) {
        if !self.verbosity.quiet {
            drop(writeln!(anstream::stderr().lock(), "{line}"));
        }
    }

    /// A detail on stderr, with `-v`.
    pub(crate) fn detail(&self, line: impl Display) {
        if self.verbosity.verbose {
            self.notice(line);
        }
    }

    /// A warning on stderr, unless quiet.
    pub(crate) fn warning(&self, line: impl Display) {
        self.notice(format_args!("{WARNING}warning:{WARNING:#} {line}"));
    }

    /// Asks a question that only `y` or `yes` affirms; `None` where nobody can answer, since
    /// stdin or stderr is no terminal.
    pub(crate) fn ask(&self, question: impl Display) -> io::Result<Option<bool>> {
        if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
            return Ok(None);
        }
        let mut stderr = anstream::stderr().lock();
        write!(stderr, "{question} [y/N] ")?;
        stderr.flush()?;
        let mut answer = String::new();
        io::stdin().read_line(&mut answer)?;
        let answer = answer.trim().to_ascii_lowercase();
        Ok(Some(matches!(answer.as_str(), "y" | "yes")))
    }

    /// Asks a question for a line of text. The outer `None`: nobody can answer, since stdin or
    /// stderr is no terminal; the inner one: the input has ended.
    pub(crate) fn prompt(&self, question: impl Display) -> io::Result<Option<Option<String>>> {
        if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
            return Ok(None);
        }
        let mut stderr = anstream::stderr().lock();
        write!(stderr, "{question} ")?;
        stderr.flush()?;
        let mut answer = String::new();
        let read = io::stdin().read_line(&mut answer)?;
        Ok(Some((read > 0).then_some(answer)))
    }

    /// An error on stderr, always.
    pub(crate) fn report(&self, report: &Report) {
        drop(write!(anstream::stderr().lock(), "{}", report.render()));
    }

    /// Whether details are wanted.
    pub(crate) fn is_verbose(&self) -> bool {
        self.verbosity.verbose
    }

    /// Whether only errors are wanted.
    pub(crate) fn is_quiet(&self) -> bool {
        self.verbosity.quiet
    }

    /// Progress on stderr: moving on a terminal, else a line a step.
    pub(crate) fn progress(&self) -> Progress {
        let Verbosity {
            quiet,
            verbose,
            no_progress,
        } = self.verbosity;
        if quiet {
            Progress::silent()
        } else if no_progress || verbose || !io::stderr().is_terminal() {
            Progress::lines()
        } else {
            Progress::moving()
        }
    }
}
