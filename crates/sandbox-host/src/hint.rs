//! Hints: the next steps after an error, as data.

use std::fmt;

use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

/// The next step of a user after an error.
///
/// A hint contains settings and commands as data, so that each program can render them. The setting
/// `memory` is `--memory` on a command line and `.memory_mib(…)` in a program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Received")]
pub struct Hint(Vec<Part>);

/// The forms of a hint that another version of `sandbox` may send: the first versions sent text,
/// and a newer one may send parts that this one does not know.
#[derive(Deserialize)]
#[serde(untagged)]
enum Received {
    Text(String),
    Parts(Vec<ReceivedPart>),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum ReceivedPart {
    Known(Part),
    Unknown(IgnoredAny),
}

impl From<Received> for Hint {
    fn from(received: Received) -> Self {
        match received {
            Received::Text(text) => Self::text(text),
            Received::Parts(parts) => {
                Self::from_parts(parts.into_iter().filter_map(|part| match part {
                    ReceivedPart::Known(part) => Some(part),
                    ReceivedPart::Unknown(_) => None,
                }))
            }
        }
    }
}

/// A part of a [`Hint`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Part {
    /// Words.
    Text(String),
    /// A setting of a sandbox, such as `memory`, with a value that works.
    Setting {
        /// Its name, in kebab case: a key of the configuration file.
        name: String,
        /// The value; `None` for the setting itself.
        value: Option<String>,
    },
    /// The arguments of a `sandbox` command, such as `stop my-project`.
    Command(String),
}

impl Hint {
    /// Starts a hint with words.
    pub fn text(text: impl Into<String>) -> Self {
        Self(vec![Part::Text(text.into())])
    }

    /// Starts a hint with a command.
    pub fn run(arguments: impl Into<String>) -> Self {
        Self(vec![Part::Command(arguments.into())])
    }

    /// Creates a hint from its parts.
    pub fn from_parts(parts: impl IntoIterator<Item = Part>) -> Self {
        Self(parts.into_iter().collect())
    }

    /// Appends words.
    #[must_use]
    pub fn then(mut self, text: impl Into<String>) -> Self {
        self.0.push(Part::Text(text.into()));
        self
    }

    /// Appends a setting with a value that works.
    #[must_use]
    pub fn setting(mut self, name: &str, value: impl fmt::Display) -> Self {
        self.0.push(Part::Setting {
            name: name.into(),
            value: Some(value.to_string()),
        });
        self
    }

    /// Appends the name of a setting.
    #[must_use]
    pub fn setting_name(mut self, name: &str) -> Self {
        self.0.push(Part::Setting {
            name: name.into(),
            value: None,
        });
        self
    }

    /// Appends a `sandbox` command, by its arguments.
    #[must_use]
    pub fn command(mut self, arguments: impl Into<String>) -> Self {
        self.0.push(Part::Command(arguments.into()));
        self
    }

    /// Returns the parts in order. Their texts contain the spaces between them.
    pub fn parts(&self) -> &[Part] {
        &self.0
    }
}

impl From<&str> for Hint {
    fn from(text: &str) -> Self {
        Self::text(text)
    }
}

impl From<String> for Hint {
    fn from(text: String) -> Self {
        Self::text(text)
    }
}

/// Formats the hint for a program that uses the library: `` `memory = 4096M` ``.
impl fmt::Display for Hint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|part| match part {
            Part::Text(text) => formatter.write_str(text),
            Part::Setting { name, value: None } => write!(formatter, "`{name}`"),
            Part::Setting {
                name,
                value: Some(value),
            } => write!(formatter, "`{name} = {value}`"),
            Part::Command(arguments) => write!(formatter, "`sandbox {arguments}`"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hint_names_settings_without_a_command_line() {
        let hint = Hint::text("give at least ")
            .setting("disk", "2048M")
            .then(", or ")
            .command("image rm old");
        assert_eq!(
            hint.to_string(),
            "give at least `disk = 2048M`, or `sandbox image rm old`"
        );
    }
}
