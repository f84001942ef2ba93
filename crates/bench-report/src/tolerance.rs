//! The change that counts as noise.

use std::fmt;
use std::str::FromStr;

/// The text is not a percentage from 0 to 100.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid tolerance `{0}`: give a percentage from 0 to 100, such as `3%`")]
pub struct ToleranceError(String);

/// The largest change that does not count, as a part of the value before.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tolerance {
    percent: f64,
}

impl Tolerance {
    /// Returns whether `after` exceeds `before` by more than the tolerance.
    pub(crate) fn is_above(self, before: f64, after: f64) -> bool {
        after > before * (1.0 + self.percent / 100.0)
    }

    /// Returns whether `after` falls below `before` by more than the tolerance.
    pub(crate) fn is_below(self, before: f64, after: f64) -> bool {
        after < before * (1.0 - self.percent / 100.0)
    }
}

impl Default for Tolerance {
    /// Returns 3%.
    fn default() -> Self {
        Self { percent: 3.0 }
    }
}

impl fmt::Display for Tolerance {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}%", self.percent)
    }
}

impl FromStr for Tolerance {
    type Err = ToleranceError;

    fn from_str(text: &str) -> Result<Self, ToleranceError> {
        text.strip_suffix('%')
            .and_then(|number| number.parse().ok())
            .filter(|percent| (0.0..=100.0).contains(percent))
            .map(|percent| Self { percent })
            .ok_or_else(|| ToleranceError(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tolerance_is_a_percentage() {
        for text in ["3%", "0%", "2.5%", "100%"] {
            assert_eq!(text.parse::<Tolerance>().unwrap().to_string(), text);
        }
        for text in ["3", "", "%", "-1%", "101%", "NaN%", "inf%", "3 %"] {
            assert!(text.parse::<Tolerance>().is_err(), "{text}");
        }
    }

    #[test]
    fn tolerance_itself_does_not_count() {
        let half: Tolerance = "50%".parse().unwrap();
        assert!(!half.is_above(2.0, 3.0) && half.is_above(2.0, 3.01));
        assert!(!half.is_below(2.0, 1.0) && half.is_below(2.0, 0.99));
    }
}
