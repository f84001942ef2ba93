//! Markdown tables with minimum, median and maximum of several runs.

use std::time::Duration;

use bench_report::{Better, Row, Unit};

use super::support::Result;

/// A table of rows.
pub(super) struct Table {
    pub(super) heading: &'static str,
    /// What distinguishes its rows from those of the other tables.
    pub(super) prefix: &'static str,
    pub(super) rows: Vec<Row>,
}

impl Table {
    pub(super) fn print(&self) {
        println!("\n| {} | min | median | max |", self.heading);
        println!("|---|---|---|---|");
        for row in &self.rows {
            println!("| {} | {} |", row.name, summary(row));
        }
    }

    /// Returns the rows under names that are unique among all tables.
    pub(super) fn into_rows(self) -> impl Iterator<Item = Row> {
        self.rows.into_iter().map(move |mut row| {
            row.name = format!("{}{}", self.prefix, row.name.trim_matches('*'));
            row
        })
    }
}

/// Returns a row of times.
pub(super) fn times(
    name: impl Into<String>,
    better: Better,
    durations: impl IntoIterator<Item = Duration>,
) -> Result<Row> {
    let seconds = durations.into_iter().map(|one| one.as_secs_f64());
    Ok(Row::new(name, Unit::Seconds, better, seconds.collect())?)
}

/// Returns a row of ratios, run by run.
pub(super) fn ratios(
    name: &str,
    better: Better,
    pairs: impl IntoIterator<Item = (Duration, Duration)>,
) -> Result<Row> {
    let ratios = pairs
        .into_iter()
        .map(|(ours, theirs)| ours.as_secs_f64() / theirs.as_secs_f64());
    Ok(Row::new(name, Unit::Ratio, better, ratios.collect())?)
}

/// Prints a table of times, with the difference to the first row as their cost.
pub(super) fn print_costs(first: &str, rows: &[Row]) {
    println!("\n| {first} | min | median | max | costs (median of the differences, run by run) |");
    println!("|---|---|---|---|---|");
    let Some(least) = rows.first() else {
        return;
    };
    for row in rows {
        let differences = row.samples.iter().zip(&least.samples);
        let mut costs: Vec<f64> = differences.map(|(own, least)| own - least).collect();
        costs.sort_by(f64::total_cmp);
        if let Some(cost) = costs.get(costs.len() / 2) {
            println!("| {} | {} | {cost:+.2} s |", row.name, summary(row));
        }
    }
}

fn summary(row: &Row) -> String {
    [row.min, row.median, row.max]
        .map(|value| row.unit.show(value))
        .join(" | ")
}
