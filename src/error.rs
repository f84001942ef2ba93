//! The error type of the library.

use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use sandbox_host::hint::Hint;
use sandbox_protocol::Failure;

use crate::agent::AgentError;

/// The kind of an [`Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A value is invalid, or two values contradict each other.
    InvalidInput,
    /// This host lacks a program, a feature or a resource that a sandbox needs.
    Host,
    /// The sandbox, the image, the template, or the program in the guest does not exist.
    NotFound,
    /// The name, or another resource such as a template, is in use.
    InUse,
    /// The image could not be built or used.
    Image,
    /// The template could not be built or used.
    Template,
    /// The guest did not become ready, or QEMU failed.
    Start,
    /// The guest cannot execute the program, or not as this user or in this directory.
    NotExecutable,
    /// The connection to the sandbox broke.
    Disconnected,
    /// A deadline passed.
    Timeout,
    /// The caller cancelled the action.
    Cancelled,
    /// A file, a socket or another resource of the host failed.
    Io,
}

/// A failure of the library.
///
/// The text states the failure and does not repeat the causes, which [`source`](StdError::source)
/// returns. [`hint`](Self::hint) returns the next step for the user.
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    error: Box<dyn StdError + Send + Sync>,
    hint: Option<Hint>,
    log: Vec<String>,
}

impl Error {
    pub(crate) fn new(
        kind: ErrorKind,
        error: impl Into<Box<dyn StdError + Send + Sync>>,
        hint: Option<Hint>,
    ) -> Self {
        Self(Box::new(Inner {
            kind,
            error: error.into(),
            hint,
            log: Vec::new(),
        }))
    }

    pub(crate) fn with_log(mut self, log: Vec<String>) -> Self {
        self.0.log = log;
        self
    }

    pub(crate) fn disconnected(error: std::io::Error) -> Self {
        AgentError::Lost(Some(error)).into()
    }

    pub(crate) fn timeout(limit: Duration) -> Self {
        Self::new(
            ErrorKind::Timeout,
            format!("the command did not end within {} s", limit.as_secs_f64()),
            None,
        )
    }

    /// Returns the kind of the failure.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Returns the next step for the user, if there is one.
    pub fn hint(&self) -> Option<&Hint> {
        self.0.hint.as_ref()
    }

    /// Returns the last lines of the log that explains the failure, such as the guest's console.
    /// The lines contain no control characters. They are empty if no log explains it.
    pub fn log_lines(&self) -> &[String] {
        &self.0.log
    }

    /// Returns whether the connection to the sandbox broke, perhaps because the sandbox ended.
    pub fn is_disconnected(&self) -> bool {
        self.kind() == ErrorKind::Disconnected
    }

    /// Returns whether a program in the guest exists and cannot be executed. False if the user or
    /// the directory is the cause.
    pub fn is_about_program(&self) -> bool {
        matches!(self.inside(), Some(AgentError::NotExecutable { .. }))
    }

    /// Returns the internal error, for tests of this workspace.
    #[doc(hidden)]
    pub fn inside<T: StdError + 'static>(&self) -> Option<&T> {
        self.0.error.downcast_ref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.error.fmt(formatter)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut structure = formatter.debug_struct("Error");
        structure
            .field("kind", &self.0.kind)
            .field("error", &self.0.error);
        if let Some(hint) = &self.0.hint {
            structure.field("hint", &hint.to_string());
        }
        structure.finish()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.error.source()
    }
}

/// A failure that a supervisor reported, as texts.
#[derive(Debug)]
struct Reported {
    message: String,
    cause: Option<Box<Reported>>,
}

impl Reported {
    fn new(message: String, causes: Vec<String>) -> Self {
        let mut causes = causes.into_iter();
        let cause = causes
            .next()
            .map(|first| Box::new(Self::new(first, causes.collect())));
        Self { message, cause }
    }
}

impl fmt::Display for Reported {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl StdError for Reported {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        let cause = self.cause.as_ref()?;
        Some(&**cause)
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        let reported = Reported::new(failure.message, failure.causes);
        Self::new(ErrorKind::Start, reported, failure.hint).with_log(failure.last_lines)
    }
}

impl From<AgentError> for Error {
    fn from(error: AgentError) -> Self {
        let kind = match &error {
            AgentError::NoProgram { .. } => ErrorKind::NotFound,
            AgentError::NotExecutable { .. }
            | AgentError::NoUser { .. }
            | AgentError::Directory { .. }
            | AgentError::Refused { .. } => ErrorKind::NotExecutable,
            AgentError::CommandTooLong { .. } => ErrorKind::InvalidInput,
            AgentError::Deadline { .. } => ErrorKind::Timeout,
            error if error.is_loss() => ErrorKind::Disconnected,
            _ => ErrorKind::Io,
        };
        let hint = error.hint();
        Self::new(kind, error, hint)
    }
}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        Self::new(ErrorKind::Io, error, None)
    }
}

impl From<crate::exec::CommandError> for Error {
    fn from(error: crate::exec::CommandError) -> Self {
        Self::new(ErrorKind::InvalidInput, error, None)
    }
}

impl From<crate::templates::BuildError> for Error {
    fn from(error: crate::templates::BuildError) -> Self {
        let log = error.last_lines().to_vec();
        let hint = error.hint();
        Self::new(ErrorKind::Template, error, hint).with_log(log)
    }
}

macro_rules! from_errors {
    ($($error:ty => $kind:ident),* $(,)?) => {
        $(impl From<$error> for Error {
            fn from(error: $error) -> Self {
                let hint = error.hint();
                Self::new(ErrorKind::$kind, error, hint)
            }
        })*
    };
}

from_errors!(
    crate::console::ConsoleError => Io,
    crate::guest::cloud_config::CloudConfigError => InvalidInput,
    crate::registry::RegistryError => InUse,
    crate::plan::PlanError => InvalidInput,
    crate::role::RoleError => Io,
    crate::spec::SpecError => InvalidInput,
    crate::ssh::KeyError => Io,
    sandbox_gateway::error::NetworkError => InvalidInput,
    sandbox_gateway::interception::InterceptionError => InvalidInput,
    sandbox_host::directories::DirectoriesError => InvalidInput,
    sandbox_host::files::FileError => Io,
    sandbox_protocol::RecordError => Io,
    sandbox_qemu::accelerator::AcceleratorError => Host,
    sandbox_qemu::program::ProgramError => Host,
    sandbox_spec::NameError => InvalidInput,
    sandbox_spec::ReferenceError => InvalidInput,
    sandbox_spec::ShareError => InvalidInput,
    sandbox_spec::SizeError => InvalidInput,
    sandbox_spec::domain::DomainError => InvalidInput,
    sandbox_spec::policy::RuleError => InvalidInput,
    sandbox_spec::secret::SecretError => InvalidInput,
    sandbox_store::image::ImageError => Image,
    sandbox_store::image::RecipeError => NotFound,
    sandbox_store::image::build::BuildError => Image,
    sandbox_store::template::TemplateError => Template,
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_of_a_supervisor_keeps_causes_hint_and_log() {
        let error = Error::from(Failure {
            message: "could not start".into(),
            causes: vec!["no disk".into(), "full".into()],
            last_lines: vec!["boot".into()],
            hint: Some("free space".into()),
        });
        let mut causes = Vec::new();
        let mut cause = error.source();
        while let Some(found) = cause {
            causes.push(found.to_string());
            cause = found.source();
        }
        assert_eq!(error.to_string(), "could not start");
        assert_eq!(causes, ["no disk", "full"]);
        assert_eq!(error.hint().unwrap().to_string(), "free space");
        assert_eq!(error.log_lines(), ["boot"]);
    }
}
