//! The allowlist's format: one entry a line (`example.com`, `*.example.com`, `.example.com`,
//! `^…$`). `#` starts a comment.

use std::collections::HashMap;

use sandbox_spec::domain::{DomainError, DomainName, DomainPattern};

/// The most entries that are read.
const MOST_ENTRIES: usize = 50_000;
/// The most regular expressions among them. A lookup tries each of them.
const MOST_EXPRESSIONS: usize = 500;

/// An invalid line. It allows no name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The line number, from 1.
    pub line: usize,
    /// The reason.
    pub error: DomainError,
}

/// A parsed allowlist. A lookup hashes each suffix of the name, so that its cost does not depend on
/// the number of domains.
#[derive(Debug, Default)]
pub struct AllowList {
    patterns: Vec<DomainPattern>,
    exact: HashMap<DomainName, usize>,
    below: HashMap<DomainName, usize>,
    expressions: Vec<usize>,
    faults: Vec<Fault>,
}

impl AllowList {
    /// Parses an allowlist. An invalid line becomes a [`Fault`] and allows no name.
    pub fn parse(text: &str) -> Self {
        let mut list = Self::default();
        for (index, line) in text.lines().enumerate() {
            match entry(line) {
                None => {}
                Some(_) if list.patterns.len() >= MOST_ENTRIES => break,
                Some(Ok(pattern)) => list.add(pattern),
                Some(Err(error)) => list.faults.push(Fault {
                    line: index + 1,
                    error,
                }),
            }
        }
        list
    }

    fn add(&mut self, pattern: DomainPattern) {
        let index = self.patterns.len();
        match &pattern {
            DomainPattern::Exact(name) => {
                self.exact.entry(name.clone()).or_insert(index);
            }
            DomainPattern::Below(name) => {
                self.below.entry(name.clone()).or_insert(index);
            }
            DomainPattern::Tree(name) => {
                self.exact.entry(name.clone()).or_insert(index);
                self.below.entry(name.clone()).or_insert(index);
            }
            DomainPattern::Expression(_) if self.expressions.len() < MOST_EXPRESSIONS => {
                self.expressions.push(index);
            }
            DomainPattern::Expression(_) => return,
        }
        self.patterns.push(pattern);
    }

    /// Returns the entry that allows the name.
    pub fn find(&self, name: &DomainName) -> Option<&DomainPattern> {
        let by_suffix = || {
            let text = name.as_str();
            text.match_indices('.')
                .find_map(|(dot, _)| self.below.get(text.get(dot + 1..)?))
        };
        let by_expression = || {
            self.expressions.iter().find(|index| {
                self.patterns
                    .get(**index)
                    .is_some_and(|pattern| pattern.matches(name))
            })
        };
        let index = self
            .exact
            .get(name)
            .or_else(by_suffix)
            .or_else(by_expression)?;
        self.patterns.get(*index)
    }

    /// Returns the entries in the order of the file.
    pub fn patterns(&self) -> &[DomainPattern] {
        &self.patterns
    }

    /// Returns the invalid lines.
    pub fn faults(&self) -> &[Fault] {
        &self.faults
    }
}

/// Returns the entry of a line without its comment, or `None` for a line without an entry.
pub(super) fn entry(line: &str) -> Option<Result<DomainPattern, DomainError>> {
    let text = line.split('#').next().unwrap_or_default().trim();
    (!text.is_empty()).then(|| text.parse())
}
