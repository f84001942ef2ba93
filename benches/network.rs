//! Measures the guest's network through the gateway, QEMU's user network and passt, in the
//! same run and the same guest.
//!
//! `cargo bench --bench network -- [--runs N] [--seconds N] [--image NAME]`
//! prints the tables that docs/performance.md quotes. `iperf3` measures
//! throughput, `ab` measures requests. Both come from Debian's packages, unpacked in the
//! workspace. Without `passt` on the host, the table has no column for it.
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

use clap::Parser;

use self::backend::Backend;
use self::measure::{MEASURES, Measured, Sandbox};
use self::support::Result;
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
    /// `cargo bench` adds it
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> Result<()> {
    let options = Options::parse();
    let scratch = tempfile::tempdir()?;
    let tools = Tools::unpack(scratch.path())?;
    let server = tools.serve()?;
    let backends = Backend::available();
    let mut measured: Vec<Vec<Measured>> = backends.iter().map(|_| Vec::new()).collect();
    for run in 1..=options.runs {
        // In turn, so that a busy moment of the host affects all back ends.
        for (backend, results) in backends.iter().zip(&mut measured) {
            eprintln!("run {run} of {}: {}", options.runs, backend.name());
            let sandbox = Sandbox::start(scratch.path(), *backend, &options.image)?;
            let result = sandbox.measure(&server, options.seconds);
            sandbox.stop()?;
            results.push(result?);
        }
    }
    print_table(&backends, &measured);
    drop(server);
    Ok(())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn print_table(backends: &[Backend], measured: &[Vec<Measured>]) {
    let names: Vec<&str> = backends.iter().map(|backend| backend.name()).collect();
    println!(
        "| Measure | {} | gateway / user network |",
        names.join(" | ")
    );
    println!("|---|{}---|", "---|".repeat(names.len()));
    for measure in MEASURES {
        let medians: Vec<f64> = measured
            .iter()
            .map(|runs| median(runs.iter().map(|run| run.get(measure)).collect()))
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
