//! Parsers of option values. Their errors end with a hint.

use sandbox::Hint;
use sandbox_spec::accelerator::UnknownAccelerator;
use sandbox_spec::domain::DomainError;
use sandbox_spec::policy::RuleError;
use sandbox_spec::publish::PublishError;
use sandbox_spec::resolver_address::InvalidResolver;
use sandbox_spec::secret::{SecretError, SecretRequest};
use sandbox_spec::{InvalidKey, NameError, ReferenceError, ShareError, SizeError, UnknownPolicy};

use crate::output::worded_hint;

/// An error with a hint.
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

/// Parses a count.
pub(super) fn whole_number<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.parse()
        .map_err(|_| format!("invalid number `{text}`\n\nhint: give a whole number, such as `10`"))
}

/// Parses a value, and appends the hint to the error.
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
