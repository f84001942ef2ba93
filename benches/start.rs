//! Times the phases of warm and cold starts, compared with plain QEMU and the stock recipe.
//! Also times commands in a running sandbox, compared with OpenSSH.
//!
//! `cargo bench --bench start -- [--runs N] [--image NAME]` prints the tables that
//! docs/performance.md quotes. With `--steps`, it prints the gain of each step of the cold
//! start. The measurements run in turn, so that a drift of the host's speed affects all. The
//! stock guest (pc machine, distribution kernel and initrd, cloud-init, SSH tried every 2 s)
//! is built once into `target/bench/`, with mmdebstrap as root.

#[path = "start/steps.rs"]
mod steps;
#[path = "start/stock.rs"]
mod stock;
mod support;
#[path = "start/table.rs"]
mod table;
#[path = "start/timeline.rs"]
mod timeline;

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use clap::Parser;

use self::support::{Result, sandbox_command, time};
use self::timeline::{Mark, Timeline};

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
    #[arg(long)]
    steps: bool,
    /// `cargo bench` adds it
    #[arg(long, hide = true)]
    bench: bool,
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
    if options.steps {
        return steps::run(directory, &options.image, options.runs);
    }
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let stock = stock::Guest::obtain(repository.join("target/bench"))?;
    // Builds image and template, and caches the result of the KVM probe, before the
    // measurements.
    let image = ["--image", &options.image];
    time(&mut sandbox_command(
        directory,
        &[&["template", "build", "-q"], &image[..]].concat(),
    ))?;
    let mut rounds = Vec::new();
    for run in 1..=options.runs {
        eprintln!("run {run} of {}", options.runs);
        rounds.push(round(directory, &image, &stock)?);
    }
    print_tables(&rounds);
    Ok(())
}

fn round(directory: &Path, image: &[&str], stock: &stock::Guest) -> Result<Round> {
    let warm = Timeline::record(directory, image)?;
    let cold = Timeline::record(directory, &[image, &["--cold"]].concat())?;
    let stock = stock.time_to_first_ssh(PATIENCE)?;
    let (exec, ssh) = sessions(directory, image)?;
    let guestless = GUESTLESS
        .iter()
        .map(|arguments| time(&mut sandbox_command(directory, arguments)))
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
fn sessions(directory: &Path, image: &[&str]) -> Result<(Duration, Duration)> {
    let name = ["--name", NAME];
    let in_sandbox = |arguments: &[&str]| sandbox_command(directory, &[arguments, &name].concat());
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

fn print_tables(rounds: &[Round]) {
    print_phases(
        "Phase of a warm `sandbox run -- true`",
        &WARM,
        rounds,
        |round| &round.warm,
    );
    print_phases(
        "Phase of a cold `sandbox run --cold -- true`",
        &COLD,
        rounds,
        |round| &round.cold,
    );

    let all = |of: fn(&Round) -> Duration| rounds.iter().map(of).collect::<Vec<_>>();
    let warm = all(|round| round.warm.at(Mark::End));
    let cold = all(|round| round.cold.at(Mark::Ready));
    let stock = all(|round| round.stock);
    let exec = all(|round| round.exec);
    let ssh = all(|round| round.ssh);
    table::heading("What");
    table::times("`sandbox run -- true`, warm, start to exit", warm.clone());
    table::times("readiness, cold", cold.clone());
    table::times("stock recipe, to its first `ssh … true`", stock.clone());
    table::times("`sandbox exec -- true` in a running sandbox", exec.clone());
    table::times("`ssh … true` in a running sandbox", ssh.clone());
    for (index, arguments) in GUESTLESS.iter().enumerate() {
        table::times(
            &format!("`sandbox {}`, which needs no guest", arguments.join(" ")),
            rounds.iter().map(|round| round.guestless[index]),
        );
    }
    table::heading("Ratio, run by run");
    table::ratios("warm `run -- true` / stock", &warm, &stock);
    table::ratios("cold readiness / stock", &cold, &stock);
    table::ratios("`exec -- true` / `ssh … true`", &exec, &ssh);
}

fn print_phases(heading: &str, phases: &[Phase], rounds: &[Round], of: fn(&Round) -> &Timeline) {
    table::heading(heading);
    for (name, begin, end) in phases {
        let duration = |timeline: &Timeline| match begin {
            Some(begin) => timeline.between(*begin, *end),
            None => timeline.at(*end),
        };
        table::times(name, rounds.iter().map(|round| duration(of(round))));
    }
    table::times(
        "**to readiness**",
        rounds.iter().map(|round| of(round).at(Mark::Ready)),
    );
    table::times(
        "**whole command**",
        rounds.iter().map(|round| of(round).at(Mark::End)),
    );
}
