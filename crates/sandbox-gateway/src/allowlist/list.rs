//! One entry a line: `example.com`, `*.example.com`, `.example.com`, `^…$`; `#` begins a comment.

use std::collections::HashMap;

use sandbox_spec::domain::{DomainError, DomainName, DomainPattern};

/// The most entries that are read, and the most expressions among them: each of those is tried
/// on each name.
const MOST_ENTRIES: usize = 50_000;
const MOST_EXPRESSIONS: usize = 500;

/// A line that could not be read. It allows nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The line's number, from 1.
    pub line: usize,
    /// What is wrong.
    pub error: DomainError,
}

/// A list as it is looked at: names are found by their suffixes, whatever the list's length is.
#[derive(Debug, Default)]
pub struct AllowList {
    patterns: Vec<DomainPattern>,
    exact: HashMap<DomainName, usize>,
    below: HashMap<DomainName, usize>,
    expressions: Vec<usize>,
    faults: Vec<Fault>,
}

impl AllowList {
    /// Reads a list. What cannot be read is a fault and allows nothing.
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

    /// The entry that allows the name.
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

    /// The entries, in their order.
    pub fn patterns(&self) -> &[DomainPattern] {
        &self.patterns
    }

    /// The lines that could not be read.
    pub fn faults(&self) -> &[Fault] {
        &self.faults
    }
}

/// What a line holds besides its comment, if anything.
pub(super) fn entry(line: &str) -> Option<Result<DomainPattern, DomainError>> {
    let text = line.split('#').next().unwrap_or_default().trim();
    (!text.is_empty()).then(|| text.parse())
}
