//! Anchored regular expressions, as in the allowlists of the old backend.

use std::fmt;

use regex_lite::{Regex, RegexBuilder};

use super::DomainName;

/// The maximum size of a compiled expression, in bytes. Matching takes time linear in the name's
/// length.
const COMPILED_BYTES: usize = 256 * 1024;

/// A regular expression that matches whole names and ignores case.
#[derive(Debug, Clone)]
pub struct DomainExpression {
    text: String,
    regex: Regex,
}

impl DomainExpression {
    /// Compiles `inner`, the part of `text` between its anchors `^` and `$`.
    ///
    /// # Errors
    /// The reason, on one line, if the expression is malformed or too large.
    pub(super) fn compile(text: &str, inner: &str) -> Result<Self, String> {
        Ok(Self {
            text: text.into(),
            regex: compile(inner)?,
        })
    }

    /// Returns whether the expression matches the whole name.
    pub fn matches(&self, name: &DomainName) -> bool {
        self.regex.is_match(name.as_str())
    }
}

fn compile(inner: &str) -> Result<Regex, String> {
    let build = |text: &str| {
        RegexBuilder::new(text)
            .case_insensitive(true)
            .size_limit(COMPILED_BYTES)
            .nest_limit(32)
            .build()
            .map_err(|error| error.to_string())
    };
    // The expression alone must be valid, so that no parenthesis in it ends the group below. The
    // group keeps `a|b` anchored.
    build(inner)?;
    build(&format!(r"\A(?:{inner})\z"))
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
