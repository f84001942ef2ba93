//! The tables of the bench, from its rounds.

use std::time::Duration;

use bench_report::{Better, Row};

use super::support::Result;
use super::table::{Table, ratios, times};
use super::timeline::{Mark, Timeline};
use super::{GUESTLESS, Round};

/// The name of a phase, with its first and last mark.
type Phase = (&'static str, Option<Mark>, Mark);

const WARM: [Phase; 5] = [
    (
        "command line: settings, image and template check, plan",
        None,
        Mark::Files,
    ),
    ("keys, overlay, QEMU exec", Some(Mark::Files), Mark::Qemu),
    (
        "QEMU start, restore, the guest becomes this sandbox",
        Some(Mark::Qemu),
        Mark::Ready,
    ),
    ("first command", Some(Mark::Ready), Mark::Command),
    ("stop, to nothing left", Some(Mark::Command), Mark::End),
];

const COLD: [Phase; 7] = [
    (
        "command line: settings, image check, plan",
        None,
        Mark::Files,
    ),
    (
        "seed, keys, overlay, initrd, QEMU exec",
        Some(Mark::Files),
        Mark::Qemu,
    ),
    (
        "QEMU start and kernel, to init",
        Some(Mark::Qemu),
        Mark::Kernel,
    ),
    ("init, to systemd", Some(Mark::Kernel), Mark::Init),
    ("userspace, to readiness", Some(Mark::Init), Mark::Ready),
    ("first command", Some(Mark::Ready), Mark::Command),
    ("stop, to nothing left", Some(Mark::Command), Mark::End),
];

/// Returns the tables in the order of printing.
pub(super) fn tables(rounds: &[Round]) -> Result<Vec<Table>> {
    let warm = phases(&WARM, rounds, |round| &round.warm)?;
    let cold = phases(&COLD, rounds, |round| &round.cold)?;
    Ok(vec![
        Table {
            heading: "Phase of a warm `sandbox run -- true`",
            prefix: "warm: ",
            rows: warm,
        },
        Table {
            heading: "Phase of a cold `sandbox run --cold -- true`",
            prefix: "cold: ",
            rows: cold,
        },
        Table {
            heading: "What",
            prefix: "",
            rows: whole(rounds)?,
        },
        Table {
            heading: "Ratio, run by run",
            prefix: "ratio: ",
            rows: compared(rounds)?,
        },
    ])
}

fn phases(phases: &[Phase], rounds: &[Round], of: fn(&Round) -> &Timeline) -> Result<Vec<Row>> {
    let lower = |name, duration: &dyn Fn(&Timeline) -> Duration| {
        let durations = rounds.iter().map(|round| duration(of(round)));
        times(name, Better::Lower, durations)
    };
    let mut rows = Vec::new();
    for (name, begin, end) in phases {
        rows.push(lower(*name, &|timeline| match begin {
            Some(begin) => timeline.between(*begin, *end),
            None => timeline.at(*end),
        })?);
    }
    rows.push(lower("**to readiness**", &|timeline| {
        timeline.at(Mark::Ready)
    })?);
    rows.push(lower("**whole command**", &|timeline| {
        timeline.at(Mark::End)
    })?);
    Ok(rows)
}

fn warm(round: &Round) -> Duration {
    round.warm.at(Mark::End)
}

fn cold(round: &Round) -> Duration {
    round.cold.at(Mark::Ready)
}

fn whole(rounds: &[Round]) -> Result<Vec<Row>> {
    let row = |name, better, of: fn(&Round) -> Duration| times(name, better, rounds.iter().map(of));
    let mut rows = vec![
        row(
            "`sandbox run -- true`, warm, start to exit",
            Better::Lower,
            warm,
        )?,
        row("readiness, cold", Better::Lower, cold)?,
        row(
            "stock recipe, to its first `ssh … true`",
            Better::Neither,
            |round| round.stock,
        )?,
        row(
            "`sandbox exec -- true` in a running sandbox",
            Better::Lower,
            |round| round.exec,
        )?,
        row(
            "`ssh … true` in a running sandbox",
            Better::Lower,
            |round| round.ssh,
        )?,
    ];
    for (index, arguments) in GUESTLESS.iter().enumerate() {
        let name = format!("`sandbox {}`, which needs no guest", arguments.join(" "));
        let durations = rounds.iter().map(|round| round.guestless[index]);
        rows.push(times(name, Better::Lower, durations)?);
    }
    Ok(rows)
}

fn compared(rounds: &[Round]) -> Result<Vec<Row>> {
    let stock = |round: &Round| round.stock;
    Ok(vec![
        ratios(
            "warm `run -- true` / stock",
            Better::Lower,
            rounds.iter().map(|round| (warm(round), stock(round))),
        )?,
        ratios(
            "cold readiness / stock",
            Better::Lower,
            rounds.iter().map(|round| (cold(round), stock(round))),
        )?,
        // A faster network would make it worse.
        ratios(
            "`exec -- true` / `ssh … true`",
            Better::Neither,
            rounds.iter().map(|round| (round.exec, round.ssh)),
        )?,
    ])
}
