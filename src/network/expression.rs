//! Anchored regular expressions, as the lists of the old backend hold them.

use std::fmt;

use regex::{Regex, RegexBuilder};

use super::domain::{DomainError, DomainName, DomainPattern};

/// The longest expression that is read, in bytes.
const LONGEST: usize = 512;
/// The bounds of a compiled expression and of its matcher, in bytes. Matching takes time linear
/// in the name's length whatever the expression is.
const COMPILED_BYTES: usize = 256 * 1024;

/// What old lists write in front of a name to mean its subdomains too.
const BELOW_OR_SAME: [&str; 4] = [r"(.*\.)?", r"(.+\.)?", r"([a-z0-9-]+\.)*", r"([^.]+\.)*"];
/// What they write to mean its subdomains alone.
const BELOW: [&str; 5] = [
    r".*\.",
    r".+\.",
    r"(.*\.)",
    r"([a-z0-9-]+\.)+",
    r"([^.]+\.)+",
];

/// A regular expression over a whole name, without regard to case.
#[derive(Debug, Clone)]
pub struct DomainExpression {
    text: String,
    regex: Regex,
}

impl DomainExpression {
    /// Reads `^…$`. The usual shapes (`^example\.com$`, `^(.*\.)?example\.com$`,
    /// `^.*\.example\.com$`) become plain patterns, in which a dot is only ever a dot.
    ///
    /// # Errors
    /// Where the expression is malformed or larger than the bounds.
    pub fn read(text: &str) -> Result<DomainPattern, DomainError> {
        let refused = |reason: String| DomainError::Expression {
            text: text.chars().take(LONGEST).collect(),
            reason,
        };
        if text.len() > LONGEST {
            return Err(refused(format!("it is longer than {LONGEST} bytes")));
        }
        let inner = text
            .strip_prefix('^')
            .and_then(|rest| rest.strip_suffix('$'))
            .ok_or_else(|| refused("it is not anchored by `^` and `$`".into()))?;
        if let Some(pattern) = usual_shape(inner) {
            return Ok(pattern);
        }
        let regex = compile(inner).map_err(refused)?;
        Ok(DomainPattern::Expression(Self {
            text: text.into(),
            regex,
        }))
    }

    /// Whether the whole name is of this form.
    pub fn matches(&self, name: &DomainName) -> bool {
        self.regex.is_match(name.as_str())
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

/// A name whose dots may be escaped and that holds nothing else of the language of expressions.
fn literal(text: &str) -> Option<DomainName> {
    let plain = text.replace(r"\.", ".").replace(r"\-", "-");
    let letters = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    (plain.bytes().all(letters) && !plain.ends_with('.'))
        .then(|| plain.parse().ok())
        .flatten()
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

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> DomainPattern {
        text.parse().unwrap()
    }

    #[test]
    fn usual_shapes_become_patterns() {
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
    fn other_expressions_hold_the_whole_name() {
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
            // Half-anchored in other languages; not here.
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
    fn malformed_and_huge_expressions_are_refused_on_one_line() {
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
