use std::collections::BTreeMap;

use super::*;
use crate::document::Host;

fn row(name: &str, better: Better, samples: &[f64]) -> Row {
    Row::new(name, Unit::Seconds, better, samples.to_vec()).unwrap()
}

fn document(rows: Vec<Row>) -> Document {
    let host = Host {
        cpus: 2,
        accelerator: "tcg".into(),
        qemu: "10.0.2".into(),
    };
    let options = BTreeMap::from([("image".into(), "debian".into())]);
    Document::new("start", "sandbox 0.1.0", host, options, rows).unwrap()
}

/// Compares documents of one row.
fn compared(better: Better, before: &[f64], after: &[f64]) -> ComparedRow {
    let before = document(vec![row("a", better, before)]);
    let after = document(vec![row("a", better, after)]);
    let comparison = compare(&before, &after, "10%".parse().unwrap()).unwrap();
    comparison.rows[0].clone()
}

#[test]
fn verdict_follows_direction_and_tolerance() {
    let cases = [
        (Better::Lower, 1.05, Verdict::Same),
        (Better::Lower, 1.2, Verdict::Worse),
        (Better::Lower, 0.8, Verdict::Better),
        (Better::Higher, 0.95, Verdict::Same),
        (Better::Higher, 0.8, Verdict::Worse),
        (Better::Higher, 1.2, Verdict::Better),
        (Better::Neither, 9.0, Verdict::Reference),
    ];
    for (better, after, verdict) in cases {
        let row = compared(better, &[1.0], &[after]);
        assert_eq!(row.verdict, verdict, "{better:?} {after}");
        assert_eq!(row.ratio, Some(after));
    }
}

#[test]
fn zero_median_has_no_ratio_but_a_verdict() {
    let cases = [
        (Better::Lower, 0.0, 0.0, None, Verdict::Same),
        (Better::Lower, 0.0, 1.0, None, Verdict::Worse),
        (Better::Higher, 0.0, 1.0, None, Verdict::Better),
        (Better::Lower, 1.0, 0.0, Some(0.0), Verdict::Better),
        (Better::Higher, 1.0, 0.0, Some(0.0), Verdict::Worse),
    ];
    for (better, before, after, ratio, verdict) in cases {
        let row = compared(better, &[before], &[after]);
        assert_eq!((row.ratio, row.verdict), (ratio, verdict), "{row:?}");
    }
}

#[test]
fn ranges_need_several_samples_on_both_sides() {
    let of = |before: &[f64], after: &[f64]| compared(Better::Lower, before, after).ranges;
    assert_eq!(of(&[1.0, 2.0], &[2.0, 3.0]), Some(Ranges::Overlap));
    assert_eq!(of(&[1.0, 4.0], &[2.0, 3.0]), Some(Ranges::Overlap));
    assert_eq!(of(&[1.0, 2.0], &[3.0, 4.0]), Some(Ranges::Apart));
    assert_eq!(of(&[3.0, 4.0], &[1.0, 2.0]), Some(Ranges::Apart));
    assert_eq!(of(&[1.0], &[3.0, 4.0]), None);
    assert_eq!(of(&[1.0, 2.0], &[3.0]), None);
}

#[test]
fn missing_rows_are_reported_and_not_worse() {
    let lower = |name| row(name, Better::Lower, &[1.0]);
    let before = document(vec![lower("gone"), lower("kept")]);
    let after = document(vec![lower("new"), lower("kept")]);
    let comparison = compare(&before, &after, Tolerance::default()).unwrap();
    let found: Vec<_> = comparison
        .rows
        .iter()
        .map(|row| (row.name.as_str(), row.before, row.after, row.verdict))
        .collect();
    let expected = [
        ("gone", Some(1.0), None, Verdict::OnlyBefore),
        ("kept", Some(1.0), Some(1.0), Verdict::Same),
        ("new", None, Some(1.0), Verdict::OnlyAfter),
    ];
    assert_eq!(found, expected);
    assert_eq!(comparison.worse(), 0);
}

#[test]
fn documents_without_a_common_row_are_refused() {
    let before = document(vec![row("a", Better::Lower, &[1.0])]);
    let after = document(vec![row("b", Better::Lower, &[1.0])]);
    let error = compare(&before, &after, Tolerance::default()).unwrap_err();
    assert_eq!(error, CompareError::NothingInCommon);
}

#[test]
fn other_bench_is_refused() {
    let before = document(vec![row("a", Better::Lower, &[1.0])]);
    let mut after = before.clone();
    after.bench = "memory".into();
    let error = compare(&before, &after, Tolerance::default()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "could not compare the results: bench `start` before, `memory` after"
    );
}

#[test]
fn row_with_another_direction_is_refused() {
    let before = document(vec![row("a", Better::Lower, &[1.0])]);
    let after = document(vec![row("a", Better::Higher, &[1.0])]);
    let error = compare(&before, &after, Tolerance::default()).unwrap_err();
    assert_eq!(error, CompareError::Row("a".into()));
}

#[test]
fn differing_hosts_and_options_are_warned_about() {
    let before = document(vec![row("a", Better::Lower, &[1.0])]);
    let mut after = before.clone();
    after.host.cpus = 4;
    after.options.insert("image".into(), "ubuntu".into());
    let comparison = compare(&before, &after, Tolerance::default()).unwrap();
    let expected = [
        "processors: `2` before, `4` after",
        "option `image`: `debian` before, `ubuntu` after",
    ];
    assert_eq!(comparison.warnings, expected);
}

#[test]
fn comparison_displays_as_a_table() {
    let before = document(vec![
        row("a", Better::Lower, &[1.0, 1.1, 1.2]),
        row("b", Better::Lower, &[0.0]),
        row("c", Better::Lower, &[0.05]),
    ]);
    let after = document(vec![
        row("a", Better::Lower, &[2.0, 2.2, 2.4]),
        row("b", Better::Lower, &[0.0]),
    ]);
    let comparison = compare(&before, &after, Tolerance::default()).unwrap();
    let expected = "\
| Row | before | after | after / before | ranges | verdict |
|---|---|---|---|---|---|
| a | 1.10 s | 2.20 s | 2.000 | apart | **worse** |
| b | 0.0 ms | 0.0 ms | - | - | same |
| c | 50.0 ms | - | - | - | only before |
";
    assert_eq!(comparison.to_string(), expected);
    assert_eq!(comparison.worse(), 1);
}
