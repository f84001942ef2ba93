//! Markdown tables with minimum, median and maximum of several runs.

use std::time::Duration;

/// Prints the head of a table.
pub(super) fn heading(first: &str) {
    println!("\n| {first} | min | median | max |\n|---|---|---|---|");
}

/// Prints a row of times.
pub(super) fn times(name: &str, durations: impl IntoIterator<Item = Duration>) {
    let mut sorted: Vec<Duration> = durations.into_iter().collect();
    sorted.sort();
    row(name, &sorted, |duration| show(*duration));
}

/// Prints a row of ratios, run by run.
pub(super) fn ratios(name: &str, ours: &[Duration], theirs: &[Duration]) {
    let mut sorted: Vec<f64> = ours
        .iter()
        .zip(theirs)
        .map(|(ours, theirs)| ours.as_secs_f64() / theirs.as_secs_f64())
        .collect();
    sorted.sort_by(f64::total_cmp);
    row(name, &sorted, |ratio| format!("{ratio:.4}"));
}

/// Prints the head of a table of [`compared`] rows.
pub(super) fn comparison(first: &str) {
    println!("\n| {first} | min | median | max | costs (median of the differences, run by run) |");
    println!("|---|---|---|---|---|");
}

/// Prints a row of times, with the difference to `least` as their cost.
pub(super) fn compared(name: &str, own: &[Duration], least: &[Duration]) {
    let mut sorted = own.to_vec();
    sorted.sort();
    let mut costs: Vec<f64> = own
        .iter()
        .zip(least)
        .map(|(own, least)| own.as_secs_f64() - least.as_secs_f64())
        .collect();
    costs.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    if let ([least, .., most], Some(median), Some(cost)) =
        (&sorted[..], sorted.get(middle), costs.get(middle))
    {
        let [least, median, most] = [least, median, most].map(|one| show(*one));
        println!("| {name} | {least} | {median} | {most} | {cost:+.2} s |");
    }
}

fn row<T>(name: &str, sorted: &[T], show: impl Fn(&T) -> String) {
    let middle = sorted.len() / 2;
    if let (Some(least), Some(median), Some(most)) =
        (sorted.first(), sorted.get(middle), sorted.last())
    {
        println!(
            "| {name} | {} | {} | {} |",
            show(least),
            show(median),
            show(most)
        );
    }
}

fn show(duration: Duration) -> String {
    match duration.as_secs_f64() {
        seconds if seconds < 0.1 => format!("{:.1} ms", seconds * 1000.0),
        seconds => format!("{seconds:.2} s"),
    }
}
