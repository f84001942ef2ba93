//! Measures the memory and disk of idle sandboxes of one template: of the first, the second,
//! and the tenth.
//!
//! `cargo bench --bench memory -- [--sandboxes N] [--image NAME]` prints the
//! tables that docs/performance.md quotes. Memory is the proportional set size
//! (PSS) of QEMU and of the supervisor, from `/proc/PID/smaps` (proc_pid_smaps(5)):
//! a page that several processes share counts for each in part.

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use clap::Parser;

use self::support::{Result, sandbox_command, time};

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
    /// `cargo bench` adds it
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> Result<()> {
    let Options {
        sandboxes, image, ..
    } = Options::parse();
    let scratch = tempfile::tempdir()?;
    let template = ["template", "build", "-q", "--image", &image];
    time(&mut sandbox_command(scratch.path(), &template))?;
    let mut started = Vec::new();
    let measured = measure(scratch.path(), &image, sandboxes, &mut started);
    for sandbox in &started {
        let stop = ["stop", "-q", &sandbox.name];
        time(&mut sandbox_command(scratch.path(), &stop))?;
    }
    print_tables(&measured?);
    Ok(())
}

/// The cost of the newest sandbox when it is the first, the second, or the last.
struct Measured {
    number: usize,
    memory: Figures,
    /// The disk usage of its state directory, in bytes.
    disk: u64,
}

fn measure(
    scratch: &Path,
    image: &str,
    sandboxes: usize,
    started: &mut Vec<Sandbox>,
) -> Result<Vec<Measured>> {
    let mut measured = Vec::new();
    for number in 1..=sandboxes {
        eprintln!("sandbox {number} of {sandboxes}");
        let name = format!("bench-memory-{number}");
        let start = ["--kvm", "-q", "--image", image, "--name", &name];
        time(&mut sandbox_command(scratch, &start))?;
        let sandbox = Sandbox::find(scratch, name)?;
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
    fn find(scratch: &Path, name: String) -> Result<Self> {
        let output = sandbox_command(scratch, &["info", "--json", "--name", &name])
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

fn print_tables(measured: &[Measured]) {
    let heading: Vec<String> = measured
        .iter()
        .map(|one| format!("sandbox {}", one.number))
        .collect();
    println!("\n| PSS, MiB | {} |", heading.join(" | "));
    println!("|---{}|", "|---".repeat(measured.len()));
    let row = |name: &str, of: &dyn Fn(&Measured) -> u64| {
        let figures: Vec<String> = measured
            .iter()
            .map(|one| format!("{:.1}", of(one) as f64 / 1024.0))
            .collect();
        println!("| {name} | {} |", figures.join(" | "));
    };
    for (purpose, name) in USES {
        row(name, &|one| {
            one.memory.get(&purpose).copied().unwrap_or_default()
        });
    }
    let guest = |one: &Measured| -> u64 {
        let of = |purpose| one.memory.get(&purpose).copied().unwrap_or_default();
        of(Use::GuestShared) + of(Use::GuestOwn)
    };
    row("**guest memory**", &guest);
    let total = |one: &Measured| one.memory.values().sum::<u64>();
    row("**all**", &total);
    row("disk, MiB", &|one| one.disk / 1024);
    if let (Some(first), Some(last)) = (measured.first(), measured.last()) {
        let ratio = |of: &dyn Fn(&Measured) -> u64| of(last) as f64 / of(first) as f64;
        println!(
            "\n| Ratio of sandbox {} to sandbox 1 | |\n|---|---|",
            last.number
        );
        println!("| guest memory | {:.2} |", ratio(&guest));
        println!("| all | {:.2} |", ratio(&total));
    }
}
