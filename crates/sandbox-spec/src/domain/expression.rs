//! Anchored regular expressions, as the lists of the old backend hold them.

use std::fmt;

use regex::{Regex, RegexBuilder};

use super::DomainName;

/// The bounds of a compiled expression and of its matcher, in bytes. Matching takes time linear
/// in the name's length whatever the expression is.
const COMPILED_BYTES: usize = 256 * 1024;

/// A regular expression over a whole name, without regard to case.
#[derive(Debug, Clone)]
pub struct DomainExpression {
    text: String,
    regex: Regex,
}

impl DomainExpression {
    /// Compiles `text`, whose part between its anchors `^` and `$` is `inner`.
    ///
    /// # Errors
    /// Where the expression is malformed or larger than the bounds.
    pub(super) fn compile(text: &str, inner: &str) -> Result<Self, String> {
        Ok(Self {
            text: text.into(),
            regex: compile(inner)?,
        })
    }

    /// Whether the whole name is of this form.
    pub fn matches(&self, name: &DomainName) -> bool {
        self.regex.is_match(name.as_str())
    }
}

fn compile(inner: &str) -> Result<Regex, String> {
    let build = |text: &str| {
        RegexBuilder::new(text)
            .case_insensitive(true)
            .size_limit(COMPILED_BYTES)
            .dfa_size_limit(COMPILED_BYTES)
            .nest_limit(32)
            .build()
            .map_err(|error| one_line(&error))
    };
    // By itself first, so that no parenthesis within ends the group that keeps `a|b` anchored.
    build(inner)?;
    build(&format!(r"\A(?:{inner})\z"))
}

fn one_line(error: &regex::Error) -> String {
    match error {
        regex::Error::CompiledTooBig(_) => "it is too large".into(),
        other => other
            .to_string()
            .lines()
            .last()
            .map(|line| line.trim_start_matches("error: ").to_owned())
            .unwrap_or_default(),
    }
}

impl PartialEq for DomainExpression {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for DomainExpression {}

impl fmt::Display for DomainExpression {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}
