//! The comparison of two documents of the same bench.

use std::fmt;

use crate::document::Document;
use crate::row::{Better, Row, Unit};
use crate::tolerance::Tolerance;

/// Why two documents cannot be compared.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CompareError {
    /// They are from different benches.
    #[error("could not compare the results: bench `{before}` before, `{after}` after")]
    Bench {
        /// The bench of the first document.
        before: String,
        /// The bench of the second document.
        after: String,
    },
    /// A row measures something else in the second document.
    #[error("could not compare row `{0}`: its unit or its direction changed")]
    Row(String),
    /// No row is in both documents.
    #[error("could not compare the results: no row is in both")]
    NothingInCommon,
}

/// Whether the samples before and after are distinct.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ranges {
    /// Some value lies within the range of both. The change may be noise.
    Overlap,
    /// Every sample on one side is above every sample on the other.
    Apart,
}

/// The outcome for one row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The median changed by the tolerance at most.
    Same,
    /// The median is better by more than the tolerance.
    Better,
    /// The median is worse by more than the tolerance.
    Worse,
    /// The program does not affect the row.
    Reference,
    /// The row is missing in the second document.
    OnlyBefore,
    /// The row is missing in the first document.
    OnlyAfter,
}

impl fmt::Display for Verdict {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Same => "same",
            Self::Better => "better",
            Self::Worse => "**worse**",
            Self::Reference => "reference",
            Self::OnlyBefore => "only before",
            Self::OnlyAfter => "only after",
        })
    }
}

/// One row of a comparison.
#[derive(Debug, Clone, PartialEq)]
pub struct ComparedRow {
    /// The name.
    pub name: String,
    /// The unit of both medians.
    pub unit: Unit,
    /// The median of the first document.
    pub before: Option<f64>,
    /// The median of the second document.
    pub after: Option<f64>,
    /// `after / before`; `None` without both, or if `before` is zero.
    pub ratio: Option<f64>,
    /// `None` unless both documents have several samples.
    pub ranges: Option<Ranges>,
    /// The outcome.
    pub verdict: Verdict,
}

/// Two results, row by row. It displays as a Markdown table.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    /// Differences of host and options that make the ratios doubtful.
    pub warnings: Vec<String>,
    /// The rows of the first document, then those that only the second has.
    pub rows: Vec<ComparedRow>,
}

impl Comparison {
    /// Returns the number of rows that are worse.
    pub fn worse(&self) -> usize {
        let worse = |row: &&ComparedRow| row.verdict == Verdict::Worse;
        self.rows.iter().filter(worse).count()
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            formatter,
            "| Row | before | after | after / before | ranges | verdict |"
        )?;
        writeln!(formatter, "|---|---|---|---|---|---|")?;
        for row in &self.rows {
            let show = |value: Option<f64>| value.map(|value| row.unit.show(value));
            let cells = [
                Some(row.name.clone()),
                show(row.before),
                show(row.after),
                row.ratio.map(|ratio| format!("{ratio:.3}")),
                row.ranges.map(|ranges| match ranges {
                    Ranges::Overlap => "overlap".into(),
                    Ranges::Apart => "apart".into(),
                }),
                Some(row.verdict.to_string()),
            ];
            let cells = cells.map(|cell| cell.unwrap_or_else(|| "-".into()));
            writeln!(formatter, "| {} |", cells.join(" | "))?;
        }
        Ok(())
    }
}

/// Compares the medians of two documents.
///
/// # Errors
/// [`CompareError`] if the documents do not measure the same quantities.
pub fn compare(
    before: &Document,
    after: &Document,
    tolerance: Tolerance,
) -> Result<Comparison, CompareError> {
    if before.bench != after.bench {
        return Err(CompareError::Bench {
            before: before.bench.clone(),
            after: after.bench.clone(),
        });
    }
    let mut rows = Vec::new();
    let mut in_common = 0;
    for old in &before.rows {
        rows.push(match after.row(&old.name) {
            Some(new) => {
                in_common += 1;
                compare_row(old, new, tolerance)?
            }
            None => one_sided(old, Verdict::OnlyBefore),
        });
    }
    if in_common == 0 {
        return Err(CompareError::NothingInCommon);
    }
    for new in &after.rows {
        if before.row(&new.name).is_none() {
            rows.push(one_sided(new, Verdict::OnlyAfter));
        }
    }
    Ok(Comparison {
        warnings: warnings(before, after),
        rows,
    })
}

fn compare_row(old: &Row, new: &Row, tolerance: Tolerance) -> Result<ComparedRow, CompareError> {
    if (old.unit, old.better) != (new.unit, new.better) {
        return Err(CompareError::Row(old.name.clone()));
    }
    let (before, after) = (old.median, new.median);
    let several = old.samples.len() > 1 && new.samples.len() > 1;
    Ok(ComparedRow {
        name: old.name.clone(),
        unit: old.unit,
        before: Some(before),
        after: Some(after),
        ratio: (before > 0.0).then(|| after / before),
        ranges: several.then_some(match old.min <= new.max && new.min <= old.max {
            true => Ranges::Overlap,
            false => Ranges::Apart,
        }),
        verdict: match (
            old.better,
            tolerance.is_above(before, after),
            tolerance.is_below(before, after),
        ) {
            (Better::Neither, _, _) => Verdict::Reference,
            (Better::Lower, true, _) | (Better::Higher, _, true) => Verdict::Worse,
            (Better::Lower, _, true) | (Better::Higher, true, _) => Verdict::Better,
            (Better::Lower | Better::Higher, false, false) => Verdict::Same,
        },
    })
}

fn one_sided(row: &Row, verdict: Verdict) -> ComparedRow {
    ComparedRow {
        name: row.name.clone(),
        unit: row.unit,
        before: (verdict == Verdict::OnlyBefore).then_some(row.median),
        after: (verdict == Verdict::OnlyAfter).then_some(row.median),
        ratio: None,
        ranges: None,
        verdict,
    }
}

fn warnings(before: &Document, after: &Document) -> Vec<String> {
    let facts = |document: &Document| {
        let host = &document.host;
        let fixed = [
            ("processors", host.cpus.to_string()),
            ("accelerator", host.accelerator.clone()),
            ("QEMU", host.qemu.clone()),
        ];
        let fixed = fixed.map(|(name, value)| (name.to_owned(), value));
        let options = document.options.iter();
        let options = options.map(|(name, value)| (format!("option `{name}`"), value.clone()));
        fixed.into_iter().chain(options).collect::<Vec<_>>()
    };
    let (before, after) = (facts(before), facts(after));
    let mut warnings = Vec::new();
    for (name, old) in &before {
        let new = after.iter().find(|(found, _)| found == name);
        let new = new.map_or("nothing", |(_, new)| new);
        if old != new {
            warnings.push(format!("{name}: `{old}` before, `{new}` after"));
        }
    }
    warnings
}

#[cfg(test)]
mod tests;
