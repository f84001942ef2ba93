//! How values of the command line are parsed, and how a bad one is refused.

use sandbox::Hint;
use sandbox_spec::accelerator::UnknownAccelerator;
use sandbox_spec::domain::DomainError;
use sandbox_spec::policy::RuleError;
use sandbox_spec::publish::PublishError;
use sandbox_spec::resolver_address::InvalidResolver;
use sandbox_spec::secret::{SecretError, SecretRequest};
use sandbox_spec::{InvalidKey, NameError, ReferenceError, ShareError, SizeError, UnknownPolicy};

use crate::output::worded_hint;

/// An error that knows what the user can do.
pub(super) trait Hinted: std::fmt::Display {
    fn hint(&self) -> Option<Hint>;
}

macro_rules! hinted {
    ($($error:ty),* $(,)?) => {
        $(impl Hinted for $error {
            fn hint(&self) -> Option<Hint> {
                <$error>::hint(self)
            }
        })*
    };
}

hinted!(
    NameError,
    SizeError,
    ShareError,
    DomainError,
    RuleError,
    PublishError,
    InvalidResolver,
    SecretError,
    ReferenceError,
    UnknownAccelerator,
    InvalidKey,
    UnknownPolicy,
);

/// Parses a count; the error names it, and what would be one.
pub(super) fn whole_number<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.parse()
        .map_err(|_| format!("`{text}` is not a whole number\n\nhint: give a number such as `10`"))
}

/// Parses a value; the error is followed by its hint.
pub(super) fn with_hint<T: std::str::FromStr<Err: Hinted>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error: T::Err| worded(&error))
}

fn worded(error: &impl Hinted) -> String {
    match error.hint() {
        Some(hint) => format!("{error}\n\nhint: {}", worded_hint(&hint)),
        None => error.to_string(),
    }
}

pub(super) fn secret_of_variable(text: &str) -> Result<SecretRequest, String> {
    SecretRequest::of_variable(text).map_err(|error| worded(&error))
}

pub(super) fn secret_of_file(text: &str) -> Result<SecretRequest, String> {
    SecretRequest::of_file(text).map_err(|error| worded(&error))
}
