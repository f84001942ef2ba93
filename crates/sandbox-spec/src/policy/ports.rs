//! The destination ports of a rule.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use super::error::RuleError;

/// Ports and port ranges: `80`, `8000-8010`, `80,443`. Never empty.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Ports(Vec<RangeInclusive<u16>>);

impl Ports {
    /// Returns whether the port is one of them.
    pub fn contains(&self, port: u16) -> bool {
        self.0.iter().any(|range| range.contains(&port))
    }
}

impl FromStr for Ports {
    type Err = RuleError;

    fn from_str(text: &str) -> Result<Self, RuleError> {
        /// Bounds the work for each flow. A readable rule has fewer.
        const MAXIMUM: usize = 64;
        let refused = || RuleError::Ports(text.into());
        let port = |text: &str| -> Result<u16, RuleError> {
            let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            match text.parse() {
                Ok(port) if digits && port > 0 => Ok(port),
                _ => Err(refused()),
            }
        };
        let ranges: Vec<_> = text
            .split(',')
            .map(|part| {
                let (first, last) = part.split_once('-').unwrap_or((part, part));
                Ok(port(first)?..=port(last)?)
            })
            .collect::<Result<_, RuleError>>()?;
        if ranges.len() > MAXIMUM || ranges.iter().any(RangeInclusive::is_empty) {
            return Err(refused());
        }
        Ok(Self(ranges))
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, range) in self.0.iter().enumerate() {
            if index > 0 {
                formatter.write_str(",")?;
            }
            write!(formatter, "{}", range.start())?;
            if range.start() != range.end() {
                write!(formatter, "-{}", range.end())?;
            }
        }
        Ok(())
    }
}
