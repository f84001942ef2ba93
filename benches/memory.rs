//! Measures the memory and disk of idle sandboxes of one template: of the first, the second,
//! and the tenth.
//!
//! `cargo bench --bench memory -- [--sandboxes N] [--image NAME]` prints the
//! tables that docs/performance.md quotes. With `--program-before PATH`, it measures another
//! build afterwards. Memory is the proportional set size (PSS) of QEMU and of the supervisor, from
//! `/proc/PID/smaps` (proc_pid_smaps(5)): a page that several processes share counts for each
//! in part.

#[allow(dead_code, reason = "other benches measure in turn")]
mod support;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use bench_report::{Better, Row, Unit};
use clap::Parser;

use self::support::{Program, ReportOptions, Result, time};

/// How long a sandbox rests before it counts as idle. Its work after readiness takes one or
/// two seconds on an idle host.
const REST: Duration = Duration::from_secs(10);

/// The use of a part of a process's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Use {
    /// Pages of the template's memory that no guest has changed.
    GuestShared,
    /// Guest pages that the guest has changed.
    GuestOwn,
    /// Guest code that TCG has translated.
    Translated,
    /// QEMU itself: program, libraries, heap.
    Qemu,
    /// The supervisor.
    Supervisor,
}

const USES: [(Use, &str); 5] = [
    (Use::GuestShared, "guest memory, still the template's"),
    (Use::GuestOwn, "guest memory, the sandbox's own"),
    (Use::Translated, "code translated by TCG"),
    (Use::Qemu, "QEMU: program, libraries, heap"),
    (Use::Supervisor, "supervisor"),
];

/// The sums of several uses.
const GUEST: &str = "**guest memory**";
const ALL: &str = "**all**";

/// Kibibytes by use.
type Figures = BTreeMap<Use, u64>;

struct Sandbox {
    name: String,
    directory: PathBuf,
    qemu: u64,
    supervisor: u64,
}

#[derive(Parser)]
struct Options {
    /// How many to start, one after the other
    #[arg(long, default_value_t = 10)]
    sandboxes: usize,
    #[arg(long, default_value = "debian-13-minimal")]
    image: String,
    #[command(flatten)]
    report: ReportOptions,
}

fn main() -> Result<()> {
    let Options {
        sandboxes,
        image,
        report,
    } = Options::parse();
    let scratch = tempfile::tempdir()?;
    let programs = report.programs(scratch.path())?;
    let mut measured = Vec::new();
    for program in &programs {
        measured.push(measure(program, &image, sandboxes)?);
    }
    print_tables(&measured[0]);
    let rows = measured.iter().map(|measured| rows(measured));
    let rows = rows.collect::<Result<_>>()?;
    let options = [("image", image), ("sandboxes", sandboxes.to_string())];
    report.report("memory", options, &programs, rows)
}

/// Starts sandboxes of one template, measures some of them, and stops all.
fn measure(program: &Program, image: &str, sandboxes: usize) -> Result<Vec<Measured>> {
    let template = ["template", "build", "-q", "--image", image];
    time(&mut program.command(&template))?;
    let mut started = Vec::new();
    let measured = start(program, image, sandboxes, &mut started);
    for sandbox in &started {
        time(&mut program.command(&["stop", "-q", &sandbox.name]))?;
    }
    measured
}

/// The cost of the newest sandbox when it is the first, the second, or the last.
struct Measured {
    number: usize,
    memory: Figures,
    /// The disk usage of its state directory, in bytes.
    disk: u64,
}

fn start(
    program: &Program,
    image: &str,
    sandboxes: usize,
    started: &mut Vec<Sandbox>,
) -> Result<Vec<Measured>> {
    let mut measured = Vec::new();
    for number in 1..=sandboxes {
        eprintln!("sandbox {number} of {sandboxes}");
        let name = format!("bench-memory-{number}");
        let start = ["--kvm", "-q", "--image", image, "--name", &name];
        time(&mut program.command(&start))?;
        let sandbox = Sandbox::find(program, name)?;
        started.push(sandbox);
        std::thread::sleep(REST);
        if [1, 2, sandboxes].contains(&number)
            && let Some(sandbox) = started.last()
        {
            measured.push(Measured {
                number,
                memory: sandbox.memory()?,
                disk: allocated(&sandbox.directory)?,
            });
        }
    }
    Ok(measured)
}

impl Sandbox {
    fn find(program: &Program, name: String) -> Result<Self> {
        let output = program
            .command(&["info", "--json", "--name", &name])
            .stdout(Stdio::piped())
            .output()?;
        let info: serde_json::Value = serde_json::from_slice(&output.stdout)?;
        if info["template"].is_null() {
            return Err(format!("`{name}` was not restored from a template").into());
        }
        Ok(Self {
            qemu: info["qemu"]["pid"].as_u64().ok_or("no QEMU")?,
            supervisor: info["supervisor"]["pid"].as_u64().ok_or("no supervisor")?,
            directory: info["state_directory"].as_str().ok_or("no state")?.into(),
            name,
        })
    }

    fn memory(&self) -> Result<Figures> {
        let mut figures = Figures::new();
        let mut mapping = String::new();
        let mut permissions = String::new();
        let smaps = fs::read_to_string(format!("/proc/{}/smaps", self.qemu))?;
        for line in smaps.lines() {
            let words: Vec<&str> = line.split_ascii_whitespace().collect();
            let [first, second, ..] = words[..] else {
                continue;
            };
            if !first.ends_with(':') {
                permissions = second.to_owned();
                mapping = words.get(5).copied().unwrap_or_default().to_owned();
                continue;
            }
            let kibibytes: u64 = second.parse().unwrap_or_default();
            let is_guest = mapping.ends_with("/ram");
            let purpose = match first {
                "Pss:" if is_guest => Use::GuestShared,
                "Pss:" if permissions.starts_with("rwx") => Use::Translated,
                "Pss:" => Use::Qemu,
                // Part of `Pss:` above.
                "Anonymous:" if is_guest => {
                    *figures.entry(Use::GuestOwn).or_default() += kibibytes;
                    let shared = figures.entry(Use::GuestShared).or_default();
                    *shared = shared.saturating_sub(kibibytes);
                    continue;
                }
                _ => continue,
            };
            *figures.entry(purpose).or_default() += kibibytes;
        }
        let rollup = fs::read_to_string(format!("/proc/{}/smaps_rollup", self.supervisor))?;
        let line = rollup.lines().find(|line| line.starts_with("Pss:"));
        let supervisor = line.and_then(|line| line.split_ascii_whitespace().nth(1));
        figures.insert(Use::Supervisor, supervisor.ok_or("no figure")?.parse()?);
        Ok(figures)
    }
}

fn allocated(directory: &Path) -> Result<u64> {
    let mut total = 0;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        total += match metadata.is_dir() {
            true => allocated(&entry.path())?,
            false => metadata.blocks() * 512,
        };
    }
    Ok(total)
}

/// The rows of the table, in KiB.
fn figures(one: &Measured) -> Vec<(&'static str, u64)> {
    let of = |purpose: &Use| one.memory.get(purpose).copied().unwrap_or_default();
    let uses = USES.iter().map(|(purpose, name)| (*name, of(purpose)));
    let guest = of(&Use::GuestShared) + of(&Use::GuestOwn);
    uses.chain([
        (GUEST, guest),
        (ALL, one.memory.values().sum()),
        ("disk, MiB", one.disk / 1024),
    ])
    .collect()
}

fn mebibytes(kibibytes: u64) -> f64 {
    kibibytes as f64 / 1024.0
}

fn rows(measured: &[Measured]) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for one in measured {
        for (name, figure) in figures(one) {
            let name = format!("sandbox {}: {}", one.number, name.trim_matches('*'));
            let samples = vec![mebibytes(figure)];
            rows.push(Row::new(name, Unit::Mebibytes, Better::Lower, samples)?);
        }
    }
    Ok(rows)
}

fn print_tables(measured: &[Measured]) {
    let heading: Vec<String> = measured
        .iter()
        .map(|one| format!("sandbox {}", one.number))
        .collect();
    println!("\n| PSS, MiB | {} |", heading.join(" | "));
    println!("|---{}|", "|---".repeat(measured.len()));
    let columns: Vec<_> = measured.iter().map(figures).collect();
    let (Some(first), Some(last), Some(newest)) =
        (columns.first(), columns.last(), measured.last())
    else {
        return;
    };
    for (index, (name, _)) in first.iter().enumerate() {
        let cells = columns
            .iter()
            .map(|column| format!("{:.1}", mebibytes(column[index].1)));
        println!("| {name} | {} |", cells.collect::<Vec<_>>().join(" | "));
    }
    println!(
        "\n| Ratio of sandbox {} to sandbox 1 | |\n|---|---|",
        newest.number
    );
    for ((name, first), (_, last)) in first.iter().zip(last) {
        if [GUEST, ALL].contains(name) {
            let ratio = *last as f64 / *first as f64;
            println!("| {} | {ratio:.2} |", name.trim_matches('*'));
        }
    }
}
