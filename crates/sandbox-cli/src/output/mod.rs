//! All output of the program: data on stdout, everything else on stderr. Quiet mode, progress and
//! colours are decided here.
//!
//! The commands use this room. It does not depend on them.

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

/// The amount of output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Verbosity {
    /// Errors only.
    pub quiet: bool,
    /// Also details.
    pub verbose: bool,
    /// Progress as lines.
    pub no_progress: bool,
}

/// Writes the output of a command.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Printer {
    verbosity: Verbosity,
}

const ERROR: Style = AnsiColor::Red.on_default().bold();
const WARNING: Style = AnsiColor::Yellow.on_default().bold();
const HINT: Style = AnsiColor::Cyan.on_default().bold();

impl Printer {
    /// Creates a printer. `anstream` strips colours by the terminal, `NO_COLOR` and `--color`.
    pub(crate) fn new(verbosity: Verbosity) -> Self {
        Self { verbosity }
    }

    /// Prints a line of data on stdout. A closed pipe, as behind `| head`, is not an error.
    pub(crate) fn data(&self, line: impl Display) -> io::Result<()> {
        match writeln!(anstream::stdout().lock(), "{line}") {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            written => written,
        }
    }

    /// Writes data to stdout unchanged, and flushes it. A closed pipe is an error, which ends the
    /// caller's stream.
    pub(crate) fn raw_data(&self, text: &str) -> io::Result<()> {
        let mut stdout = io::stdout().lock();
        stdout.write_all(text.as_bytes())?;
        stdout.flush()
    }

    /// Prints data as JSON on stdout.
    pub(crate) fn json(&self, value: &impl serde::Serialize) -> io::Result<()> {
        self.data(serde_json::to_string_pretty(value)?)
    }

    /// Prints a line on stderr, unless quiet. Ignores a closed stderr.
    pub(crate) fn notice(&self, line: impl Display) {
        if !self.verbosity.quiet {
            drop(writeln!(anstream::stderr().lock(), "{line}"));
        }
    }

    /// Prints a detail on stderr, with `-v`.
    pub(crate) fn detail(&self, line: impl Display) {
        if self.verbosity.verbose {
            self.notice(line);
        }
    }

    /// Prints a warning on stderr, unless quiet.
    pub(crate) fn warning(&self, line: impl Display) {
        self.notice(format_args!("{WARNING}warning:{WARNING:#} {line}"));
    }

    /// Asks a question and returns whether the answer is `y` or `yes`. Returns `None` if stdin or
    /// stderr is not a terminal.
    pub(crate) fn ask(&self, question: impl Display) -> io::Result<Option<bool>> {
        let Some(answer) = self.prompt(format_args!("{question} [y/N]"))? else {
            return Ok(None);
        };
        let answer = answer.unwrap_or_default().trim().to_ascii_lowercase();
        Ok(Some(matches!(answer.as_str(), "y" | "yes")))
    }

    /// Asks for a line of text. Returns `None` if stdin or stderr is not a terminal, and
    /// `Some(None)` at the end of the input.
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

    /// Prints an error on stderr, also when quiet.
    pub(crate) fn report(&self, report: &Report) {
        drop(write!(anstream::stderr().lock(), "{}", report.render()));
    }

    /// Returns whether details are printed.
    pub(crate) fn is_verbose(&self) -> bool {
        self.verbosity.verbose
    }

    /// Returns whether only errors are printed.
    pub(crate) fn is_quiet(&self) -> bool {
        self.verbosity.quiet
    }

    /// Creates the progress on stderr: a moving line on a terminal, otherwise one line per step.
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
