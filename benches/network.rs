//! Measures the guest's network through the gateway, QEMU's user network and passt, in the
//! same run and the same guest.
//!
//! `cargo bench --bench network -- [--runs N] [--seconds N] [--image NAME]`
//! prints the tables that docs/performance.md quotes. `iperf3` measures
//! throughput, `ab` measures requests. Both come from Debian's packages, unpacked in the
//! workspace. Without `passt` on the host, the table has no column for it.
//!
//! With `--program-before PATH`, the gateway of another build of `sandbox` is measured in turn,
//! and the two builds are compared.
//!
//! A script in front of QEMU replaces the back end of the NIC. Everything else of the
//! sandbox is the same.

#[path = "network/backend.rs"]
mod backend;
#[path = "network/measure.rs"]
mod measure;
#[allow(dead_code, reason = "other benches measure time")]
mod support;
#[path = "network/tools.rs"]
mod tools;

use std::path::Path;

use bench_report::{Better, Row};
use clap::Parser;

use self::backend::Backend;
use self::measure::{MEASURES, Measure, Measured, Sandbox};
use self::support::{ReportOptions, Result, turns};
use self::tools::Tools;

#[derive(Parser)]
struct Options {
    /// Rounds to measure
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// How long each measure of throughput takes
    #[arg(long, default_value_t = 10)]
    seconds: u32,
    #[arg(long, default_value = "debian-13-minimal")]
    image: String,
    #[command(flatten)]
    report: ReportOptions,
}

/// The results of one back end.
struct Series {
    backend: Backend,
    /// The index of the program that starts the guest.
    program: usize,
    runs: Vec<Measured>,
}

fn main() -> Result<()> {
    let options = Options::parse();
    let scratch = tempfile::tempdir()?;
    let programs = options.report.programs(&workspace(scratch.path()))?;
    let tools = Tools::unpack(scratch.path())?;
    let server = tools.serve()?;
    let mut series = series(programs.len());
    for run in 1..=options.runs {
        // In turn, so that a busy moment of the host affects all.
        for index in turns(run, series.len()) {
            let Series {
                backend,
                program,
                runs,
            } = &mut series[index];
            let program = &programs[*program];
            eprintln!("run {run} of {}: {}", options.runs, backend.name());
            let sandbox = Sandbox::start(program, scratch.path(), *backend, &options.image)?;
            let result = sandbox.measure(&server, options.seconds);
            sandbox.stop()?;
            runs.push(result?);
        }
    }
    drop(server);
    print_table(&of_program(&series, 0));
    let rows = (0..programs.len()).map(|program| rows(&of_program(&series, program)));
    let rows = rows.collect::<Result<_>>()?;
    let settings = [
        ("image", options.image),
        ("seconds", options.seconds.to_string()),
    ];
    options.report.report("network", settings, &programs, rows)
}

/// Returns one series for the gateway of each program. The first program starts the guests of
/// the other back ends, since those are references.
fn series(programs: usize) -> Vec<Series> {
    let mut series = Vec::new();
    for backend in Backend::available() {
        let programs = match backend {
            Backend::Gateway => programs,
            Backend::User | Backend::Passt => 1,
        };
        series.extend((0..programs).map(|program| Series {
            backend,
            program,
            runs: Vec::new(),
        }));
    }
    series
}

/// Returns the series of the gateway of one program, and the references.
fn of_program(series: &[Series], program: usize) -> Vec<&Series> {
    let belongs = |one: &&Series| one.program == program || one.backend != Backend::Gateway;
    series.iter().filter(belongs).collect()
}

impl Series {
    fn samples(&self, measure: Measure) -> Vec<f64> {
        self.runs.iter().map(|run| run.get(measure)).collect()
    }
}

fn rows(series: &[&Series]) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for measure in MEASURES {
        let (unit, better) = measure.unit();
        for one in series {
            let better = match one.backend {
                Backend::Gateway => better,
                Backend::User | Backend::Passt => Better::Neither,
            };
            let name = format!("{}: {}", one.backend.name(), measure.name());
            rows.push(Row::new(name, unit, better, one.samples(measure))?);
        }
    }
    Ok(rows)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn print_table(series: &[&Series]) {
    let names: Vec<&str> = series.iter().map(|one| one.backend.name()).collect();
    println!(
        "| Measure | {} | gateway / user network |",
        names.join(" | ")
    );
    println!("|---|{}---|", "---|".repeat(names.len()));
    for measure in MEASURES {
        let medians: Vec<f64> = series
            .iter()
            .map(|one| median(one.samples(measure)))
            .collect();
        let cells: Vec<String> = medians.iter().map(|value| format!("{value:.1}")).collect();
        let ratio = match medians[..] {
            [gateway, user, ..] => format!("{:.2}", gateway / user),
            _ => String::new(),
        };
        println!("| {} | {} | {ratio} |", measure.name(), cells.join(" | "));
    }
}

/// Runs a program to its end. Returns its stdout.
fn output(command: &mut std::process::Command) -> Result<String> {
    let output = command.output()?;
    if !output.status.success() {
        let error = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{command:?} ended with {}: {error}", output.status).into());
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// Returns the directory of the sandbox's workspace.
fn workspace(scratch: &Path) -> std::path::PathBuf {
    scratch.join("workspace")
}
