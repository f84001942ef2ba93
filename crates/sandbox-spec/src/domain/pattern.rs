//! Patterns that match host names.

use std::fmt;
use std::str::FromStr;

use super::name::LONGEST_NAME;
use super::{DomainError, DomainExpression, DomainName};
use crate::text::serde_as_text;

/// The maximum length of an expression, in bytes.
const LONGEST_EXPRESSION: usize = 512;

/// Prefixes in old allowlists for a name and its subdomains.
const BELOW_OR_SAME: [&str; 4] = [r"(.*\.)?", r"(.+\.)?", r"([a-z0-9-]+\.)*", r"([^.]+\.)*"];
/// Prefixes in old allowlists for the subdomains of a name.
const BELOW: [&str; 5] = [
    r".*\.",
    r".+\.",
    r"(.*\.)",
    r"([a-z0-9-]+\.)+",
    r"([^.]+\.)+",
];

/// A pattern that matches host names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DomainPattern {
    /// `example.com`: that name.
    Exact(DomainName),
    /// `*.example.com`: all names below it, at any depth.
    Below(DomainName),
    /// `.example.com`: that name and all names below it.
    Tree(DomainName),
    /// `^…$`: a regular expression for the whole name in its canonical form. The parser turns the
    /// usual expressions into one of the other patterns.
    Expression(DomainExpression),
}

impl DomainPattern {
    /// Returns whether the pattern matches the name.
    pub fn matches(&self, name: &DomainName) -> bool {
        match self {
            Self::Exact(exact) => name == exact,
            Self::Below(parent) => name.is_below(parent),
            Self::Tree(parent) => name == parent || name.is_below(parent),
            Self::Expression(expression) => expression.matches(name),
        }
    }
}

impl FromStr for DomainPattern {
    type Err = DomainError;

    fn from_str(text: &str) -> Result<Self, DomainError> {
        if text.starts_with('^') && text.ends_with('$') {
            return expression(text);
        }
        if let Some(parent) = text.strip_prefix("*.") {
            return Self::name(text, parent).map(Self::Below);
        }
        match text.strip_prefix('.') {
            Some(parent) => Self::name(text, parent).map(Self::Tree),
            None => Self::name(text, text).map(Self::Exact),
        }
    }
}

impl DomainPattern {
    fn name(text: &str, name: &str) -> Result<DomainName, DomainError> {
        if name.contains('*') {
            return Err(DomainError::Wildcard(
                text.chars().take(LONGEST_NAME).collect(),
            ));
        }
        name.parse()
    }
}

serde_as_text!(DomainPattern);

impl fmt::Display for DomainPattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => write!(formatter, "{name}"),
            Self::Below(name) => write!(formatter, "*.{name}"),
            Self::Tree(name) => write!(formatter, ".{name}"),
            Self::Expression(expression) => write!(formatter, "{expression}"),
        }
    }
}

/// Parses `^…$`. The usual expressions (`^example\.com$`, `^(.*\.)?example\.com$`,
/// `^.*\.example\.com$`) become plain patterns, in which a dot is always a dot.
fn expression(text: &str) -> Result<DomainPattern, DomainError> {
    let refused = |reason: String| DomainError::Expression {
        text: text.chars().take(LONGEST_EXPRESSION).collect(),
        reason,
    };
    if text.len() > LONGEST_EXPRESSION {
        return Err(refused(format!(
            "it is longer than {LONGEST_EXPRESSION} bytes"
        )));
    }
    let inner = text
        .strip_prefix('^')
        .and_then(|rest| rest.strip_suffix('$'))
        .ok_or_else(|| refused("it does not start with `^` and end with `$`".into()))?;
    match usual_shape(inner) {
        Some(pattern) => Ok(pattern),
        None => DomainExpression::compile(text, inner)
            .map(DomainPattern::Expression)
            .map_err(refused),
    }
}

fn usual_shape(inner: &str) -> Option<DomainPattern> {
    let rest_after = |prefixes: &[&str]| {
        prefixes
            .iter()
            .find_map(|prefix| inner.strip_prefix(prefix))
            .and_then(literal)
    };
    if let Some(name) = rest_after(&BELOW_OR_SAME) {
        return Some(DomainPattern::Tree(name));
    }
    if let Some(name) = rest_after(&BELOW) {
        return Some(DomainPattern::Below(name));
    }
    literal(inner).map(DomainPattern::Exact)
}

/// Parses a name that contains no syntax of expressions except for escaped dots and hyphens.
fn literal(text: &str) -> Option<DomainName> {
    let plain = text.replace(r"\.", ".").replace(r"\-", "-");
    let letters = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    (plain.bytes().all(letters) && !plain.ends_with('.'))
        .then(|| plain.parse().ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> DomainPattern {
        text.parse().unwrap()
    }

    #[test]
    fn usual_expression_becomes_a_plain_pattern() {
        for (text, expected) in [
            (r"^example\.com$", "example.com"),
            (r"^example.com$", "example.com"),
            (r"^Example\.COM$", "example.com"),
            (r"^(.*\.)?example\.com$", ".example.com"),
            (r"^([a-z0-9-]+\.)*example\.com$", ".example.com"),
            (r"^.*\.example\.com$", "*.example.com"),
            (r"^my\-host\.example\.com$", "my-host.example.com"),
        ] {
            assert_eq!(pattern(text).to_string(), expected);
        }
    }

    #[test]
    fn other_expression_matches_the_whole_name() {
        for (text, inside, outside) in [
            (
                r"^(api|www)\.example\.com$",
                &["api.example.com", "www.example.com"][..],
                &[
                    "evil.api.example.com",
                    "api.example.com.evil.org",
                    "apixexample.com",
                ][..],
            ),
            // Each alternative has one anchor in other languages, and both here.
            (
                r"^a\.example|b\.example$",
                &["a.example", "b.example"],
                &["a.example.evil.org", "evil.b.example"],
            ),
            (
                r"^s3-[a-z]{2}\.example\.com$",
                &["s3-eu.example.com"],
                &["s3-eux.example.com"],
            ),
            (
                r"^[^.]+\.example\.com$",
                &["a.example.com"],
                &["a.b.example.com"],
            ),
        ] {
            let pattern = pattern(text);
            assert!(matches!(pattern, DomainPattern::Expression(_)), "{text}");
            for name in inside {
                assert!(pattern.matches(&name.parse().unwrap()), "{text} {name}");
            }
            for name in outside {
                assert!(!pattern.matches(&name.parse().unwrap()), "{text} {name}");
            }
        }
    }

    #[test]
    fn malformed_or_large_expression_is_refused_on_one_line() {
        let long = format!("^{}$", "a|".repeat(400));
        for text in [
            "^($",
            "^a)|(?:b$",
            r"^(a{1000}){1000}$",
            r"^\p{Unknown}$",
            "^(?=a)b$",
            &long,
            "^[$",
            r"^(a)\1$",
        ] {
            let error = text.parse::<DomainPattern>().unwrap_err();
            assert!(matches!(error, DomainError::Expression { .. }), "{text}");
            assert!(!error.to_string().contains('\n'), "{error}");
        }
    }
}
