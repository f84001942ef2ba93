//! One measured quantity.

use serde::{Deserialize, Serialize};

/// Why samples cannot be a row.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RowError {
    /// There is no sample.
    #[error("row `{name}` has no samples")]
    NoSamples {
        /// The name of the row.
        name: String,
    },
    /// A sample is negative, infinite or not a number.
    #[error("invalid sample {sample} in row `{name}`")]
    Sample {
        /// The name of the row.
        name: String,
        /// The sample.
        sample: f64,
    },
}

/// The unit of a row's samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Unit {
    /// Seconds.
    #[serde(rename = "s")]
    Seconds,
    /// Mebibytes: 1024 × 1024 bytes.
    #[serde(rename = "MiB")]
    Mebibytes,
    /// Megabits per second: 1,000,000 bits.
    #[serde(rename = "Mbit/s")]
    MegabitsPerSecond,
    /// Requests per second.
    #[serde(rename = "requests/s")]
    RequestsPerSecond,
    /// Seconds per gigabyte: 1,000,000,000 bytes.
    #[serde(rename = "s/GB")]
    SecondsPerGigabyte,
    /// A number of events.
    #[serde(rename = "count")]
    Count,
    /// The ratio of two quantities of the same unit.
    #[serde(rename = "1")]
    Ratio,
}

impl Unit {
    /// Returns `value` with its unit. Short times are in milliseconds.
    pub fn show(self, value: f64) -> String {
        match self {
            Self::Seconds if value < 0.1 => format!("{:.1} ms", value * 1000.0),
            Self::Seconds => format!("{value:.2} s"),
            Self::Count => format!("{value:.1}"),
            Self::Mebibytes => format!("{value:.1} MiB"),
            Self::MegabitsPerSecond => format!("{value:.1} Mbit/s"),
            Self::RequestsPerSecond => format!("{value:.1} requests/s"),
            Self::SecondsPerGigabyte => format!("{value:.1} s/GB"),
            Self::Ratio => format!("{value:.4}"),
        }
    }
}

/// Which values of a row are better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Better {
    /// Lower values, such as times and sizes.
    Lower,
    /// Higher values, such as throughput.
    Higher,
    /// The row is a reference that the program does not affect, such as another product.
    Neither,
}

/// The samples of one quantity. [`Row::new`] makes it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Row {
    /// The name, unique in its document.
    pub name: String,
    /// The unit of all values.
    pub unit: Unit,
    /// Which values are better.
    pub better: Better,
    /// Every sample, in the order of measurement.
    pub samples: Vec<f64>,
    /// The median; the upper of the two middle samples if their number is even.
    pub median: f64,
    /// The least sample.
    pub min: f64,
    /// The largest sample.
    pub max: f64,
}

impl Row {
    /// Returns the row of these samples.
    ///
    /// # Errors
    /// [`RowError`] if there is no sample, or one is negative or not finite.
    pub fn new(
        name: impl Into<String>,
        unit: Unit,
        better: Better,
        samples: Vec<f64>,
    ) -> Result<Self, RowError> {
        let name = name.into();
        if let Some(&sample) = samples
            .iter()
            .find(|sample| !sample.is_finite() || **sample < 0.0)
        {
            return Err(RowError::Sample { name, sample });
        }
        let mut sorted = samples.clone();
        sorted.sort_by(f64::total_cmp);
        let (Some(&min), Some(&median), Some(&max)) =
            (sorted.first(), sorted.get(sorted.len() / 2), sorted.last())
        else {
            return Err(RowError::NoSamples { name });
        };
        Ok(Self {
            name,
            unit,
            better,
            samples,
            median,
            min,
            max,
        })
    }

    /// Computes median, minimum and maximum again from the samples.
    pub(crate) fn checked(self) -> Result<Self, RowError> {
        Self::new(self.name, self.unit, self.better, self.samples)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn row_sorts_for_its_summary_only() {
        let row = Row::new("a", Unit::Seconds, Better::Lower, vec![3.0, 1.0, 2.0]).unwrap();
        assert_eq!((row.min, row.median, row.max), (1.0, 2.0, 3.0));
        assert_eq!(row.samples, [3.0, 1.0, 2.0]);
        let even = Row::new("a", Unit::Seconds, Better::Lower, vec![1.0, 2.0]).unwrap();
        assert_eq!(even.median, 2.0);
    }

    #[test]
    fn row_without_usable_samples_is_refused() {
        for samples in [vec![], vec![f64::NAN], vec![1.0, -1.0], vec![f64::INFINITY]] {
            let row = Row::new("a", Unit::Seconds, Better::Lower, samples);
            assert!(row.is_err(), "{row:?}");
        }
    }

    #[test]
    fn unit_shows_short_times_in_milliseconds() {
        assert_eq!(Unit::Seconds.show(0.0123), "12.3 ms");
        assert_eq!(Unit::Seconds.show(1.5), "1.50 s");
        assert_eq!(Unit::Ratio.show(0.5), "0.5000");
    }
}
