//! Times the phases of warm and cold starts, compared with plain QEMU and the stock recipe.
//! Also times commands in a running sandbox, compared with OpenSSH.
//!
//! `cargo bench --bench start -- [--runs N] [--image NAME]` prints the tables that
//! docs/performance.md quotes. With `--steps`, it prints the gain of each step of the cold
//! start. With `--program-before PATH`, the rounds alternate between two builds of `sandbox`,
//! and the two are compared. All measurements run in turn, so that a drift of the host's speed
//! affects all. The stock guest (pc machine, distribution kernel and initrd, cloud-init, SSH
//! tried every 2 s) is built once into `target/bench/`, with mmdebstrap as root.

#[path = "start/figures.rs"]
mod figures;
#[path = "start/steps.rs"]
mod steps;
#[path = "start/stock.rs"]
mod stock;
#[allow(dead_code, reason = "another bench needs the path of a program")]
mod support;
#[path = "start/table.rs"]
mod table;
#[path = "start/timeline.rs"]
mod timeline;

use std::process::{Command, Stdio};
use std::time::Duration;

use bench_report::Row;
use clap::Parser;

use self::support::{Program, ReportOptions, Result, repository, time, turns};
use self::table::Table;
use self::timeline::Timeline;

/// The sandbox in which commands are timed.
const NAME: &str = "bench-sessions";

/// How long one start may take.
const PATIENCE: Duration = Duration::from_secs(600);

/// Commands that need no guest.
const GUESTLESS: [&[&str]; 6] = [
    &["list"],
    &["image", "ls"],
    &["template", "ls"],
    &["df"],
    &["--dry-run"],
    &["--help"],
];

#[derive(Parser)]
struct Options {
    /// Rounds to measure
    #[arg(long, default_value_t = 7)]
    runs: usize,
    #[arg(long, default_value = "debian-13-minimal")]
    image: String,
    /// Measure the gain of each step of a cold start instead
    #[arg(long, conflicts_with = "program_before")]
    steps: bool,
    #[command(flatten)]
    report: ReportOptions,
}

/// The measurements of one round.
struct Round {
    warm: Timeline,
    cold: Timeline,
    stock: Duration,
    exec: Duration,
    ssh: Duration,
    guestless: Vec<Duration>,
}

fn main() -> Result<()> {
    let options = Options::parse();
    let scratch = tempfile::tempdir()?;
    let directory = scratch.path();
    let programs = options.report.programs(directory)?;
    let (bench, rows) = match options.steps {
        true => {
            let rows = steps::run(&programs[0], directory, &options.image, options.runs)?;
            ("start-steps", vec![rows])
        }
        false => ("start", measure(&programs, &options.image, options.runs)?),
    };
    let settings = [("image", options.image)];
    options.report.report(bench, settings, &programs, rows)
}

/// Measures the programs in turn and prints the tables of the first one. Returns the rows of
/// each.
fn measure(programs: &[Program], image: &str, runs: usize) -> Result<Vec<Vec<Row>>> {
    let stock = stock::Guest::obtain(repository().join("target/bench"))?;
    let image = ["--image", image];
    for program in programs {
        // Builds image and template, and caches the result of the KVM probe, before the
        // measurements.
        let build = [&["template", "build", "-q"], &image[..]].concat();
        time(&mut program.command(&build))?;
    }
    let mut rounds: Vec<Vec<Round>> = programs.iter().map(|_| Vec::new()).collect();
    for run in 1..=runs {
        eprintln!("run {run} of {runs}");
        let stock = stock.time_to_first_ssh(PATIENCE)?;
        for index in turns(run, programs.len()) {
            rounds[index].push(round(&programs[index], &image, stock)?);
        }
    }
    let tables = rounds.iter().map(|rounds| figures::tables(rounds));
    let tables: Vec<Vec<Table>> = tables.collect::<Result<_>>()?;
    for table in &tables[0] {
        table.print();
    }
    let rows = |tables: Vec<Table>| tables.into_iter().flat_map(Table::into_rows).collect();
    Ok(tables.into_iter().map(rows).collect())
}

fn round(program: &Program, image: &[&str], stock: Duration) -> Result<Round> {
    let warm = Timeline::record(program, image)?;
    let cold = Timeline::record(program, &[image, &["--cold"]].concat())?;
    let (exec, ssh) = sessions(program, image)?;
    let guestless = GUESTLESS
        .iter()
        .map(|arguments| time(&mut program.command(arguments)))
        .collect::<Result<_>>()?;
    Ok(Round {
        warm,
        cold,
        stock,
        exec,
        ssh,
        guestless,
    })
}

/// Times `sandbox exec -- true` and OpenSSH's `ssh … true` in a running sandbox. Each runs
/// twice and the second run counts, since the first loads programs into the guest's memory.
fn sessions(program: &Program, image: &[&str]) -> Result<(Duration, Duration)> {
    let name = ["--name", NAME];
    let in_sandbox = |arguments: &[&str]| program.command(&[arguments, &name].concat());
    time(&mut in_sandbox(&[&["--kvm", "-q"], image].concat()))?;
    let timed = (|| {
        let exec = || time(in_sandbox(&["exec"]).args(["--", "true"]));
        let info = in_sandbox(&["info", "--json"])
            .stdout(Stdio::piped())
            .output()?;
        let info: serde_json::Value = serde_json::from_slice(&info.stdout)?;
        let line = info["ssh_command"].as_str().ok_or("no SSH port")?;
        let ssh = || {
            let mut command = Command::new("sh");
            command.args(["-c", &format!("{line} true")]);
            time(command.stdin(Stdio::null()).stdout(Stdio::null()))
        };
        exec()?;
        ssh()?;
        Ok((exec()?, ssh()?))
    })();
    time(&mut in_sandbox(&["stop", "-q"]))?;
    timed
}
