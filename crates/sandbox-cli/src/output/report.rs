//! Errors as text: the failure, its causes, the last lines of a log, and a hint.

use sandbox_host::hint::Hint;
use std::fmt::Write;

use super::hint::worded_hint;
use super::{ERROR, HINT};
use sandbox_protocol::Failure;

/// An error to print, with its causes and its hint.
#[derive(Debug)]
pub(crate) struct Report(Box<Failure>);

impl Report {
    /// Creates a report without a cause.
    pub(crate) fn new(message: impl Into<String>, hint: Option<Hint>) -> Self {
        Self(Box::new(Failure {
            message: message.into(),
            causes: Vec::new(),
            last_lines: Vec::new(),
            hint,
        }))
    }

    /// Creates a report from an error and its causes.
    pub(crate) fn of(error: &dyn std::error::Error, hint: Option<Hint>) -> Self {
        Self(Box::new(Failure::from_error(error, hint)))
    }

    /// Returns the text, with styles.
    pub(crate) fn render(&self) -> String {
        let Failure {
            message,
            causes,
            last_lines,
            hint,
        } = &*self.0;
        let mut text = format!("{ERROR}error:{ERROR:#} {message}\n");
        for cause in causes {
            let _ = writeln!(text, "  caused by: {}", cause.trim_end());
        }
        if !last_lines.is_empty() {
            text.push_str("\nlast lines of its log:\n");
            for line in last_lines {
                let _ = writeln!(text, "  | {line}");
            }
        }
        if let Some(hint) = hint {
            let _ = writeln!(text, "\n{HINT}hint:{HINT:#} {}", worded_hint(hint));
        }
        text
    }
}

impl From<Failure> for Report {
    fn from(failure: Failure) -> Self {
        Self(Box::new(failure))
    }
}

impl From<sandbox::Error> for Report {
    fn from(error: sandbox::Error) -> Self {
        let mut failure = Failure::from_error(&error, error.hint().cloned());
        failure.last_lines = error.log_lines().to_vec();
        Self(Box::new(failure))
    }
}

/// Implements the conversion from errors with a method `hint`.
macro_rules! from_errors {
    ($($error:ty),* $(,)?) => {
        $(impl From<$error> for Report {
            fn from(error: $error) -> Self {
                Self::of(&error, error.hint())
            }
        })*
    };
}

from_errors!(
    crate::console::AttachError,
    sandbox::ConsoleError,
    crate::settings::ConfigurationError,
    sandbox_gateway::error::NetworkError,
    sandbox_host::files::FileError,
    sandbox_protocol::RecordError,
    sandbox_store::image::ImageError,
    sandbox_store::template::TemplateError,
);

#[cfg(feature = "ssh")]
from_errors!(sandbox_session::ssh::SshError);

impl From<std::io::Error> for Report {
    fn from(error: std::io::Error) -> Self {
        Self::of(&error, None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn report_renders_failure_causes_log_and_hint() {
        let report = Report::from(Failure {
            message: "could not start".into(),
            causes: vec!["no disk".into()],
            last_lines: vec!["boot".into()],
            hint: Some("free space".into()),
        });
        let text = anstream::adapter::strip_str(&report.render()).to_string();
        assert_eq!(
            text,
            "error: could not start\n  caused by: no disk\n\nlast lines of its log:\n  | boot\n\nhint: free space\n"
        );
    }
}
