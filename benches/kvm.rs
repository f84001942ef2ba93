//! Counts the exits of a sandbox to KVM, in an emulated host with KVM.
//!
//! `cargo bench --bench kvm -- [--runs N] [--image NAME]` prints the table that
//! docs/performance.md quotes. Times mean nothing in there, counts do. The host is the bed of
//! `tests/vm/kvm.rs`. With `--program-before PATH`, another build is measured afterwards, in a bed
//! of its own. With `--steps`, it counts what each step of the cold start saves.

#[path = "kvm/counts.rs"]
mod counts;
#[path = "kvm/steps.rs"]
mod steps;
#[allow(dead_code, reason = "other benches measure time")]
mod support;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use bench_report::{Better, Row, Unit};
use clap::Parser;
use sandbox_test_support::{BedDisk, KvmBed, TestEnvironment};

use self::counts::{Counts, KINDS, count};
use self::support::{Program, ReportOptions, Result, time};

type Bed = KvmBed<TestEnvironment>;

/// The seconds that an idle sandbox is watched.
const IDLE: u32 = 20;
/// How often the cheapest command is repeated.
const REPEATED: u32 = 5;

/// What the user does, and how often, so that counts are for one time.
const ACTIONS: [(&str, &str, u32); 7] = [
    ("restore to ready", "sandbox --kvm -q < /dev/null", 1),
    ("first command", "sandbox exec -- true", 1),
    ("an idle second", "sleep 20", IDLE),
    (
        "`exec -- true`",
        "for i in 1 2 3 4 5; do sandbox exec -- true; done",
        REPEATED,
    ),
    (
        "1,000 small files in the workspace",
        "sandbox exec -- sh -c 'mkdir d; cd d; for i in $(seq 1000); do echo $i > $i; done'; rm -r d",
        1,
    ),
    (
        "100 MB in through the gateway",
        "sandbox exec -- python3 -c 'import socket
s = socket.create_connection((\"198.51.100.7\", 9001))
while s.recv(1 << 20): pass'",
        1,
    ),
    (
        "100 MB out through the gateway",
        "sandbox exec -- python3 -c 'import socket
s = socket.create_connection((\"198.51.100.7\", 9002))
for i in range(100): s.sendall(bytes(1000000))
s.shutdown(socket.SHUT_WR); s.recv(1)'",
        1,
    ),
];

/// Serves 100 MB at port 9001, and takes everything at port 9002.
const SERVER: &str = r#"
import socket, threading
def serve(port, handle):
    server = socket.create_server(("198.51.100.7", port))
    while True:
        connection, _ = server.accept()
        handle(connection)
        connection.close()
def give(connection):
    for i in range(100): connection.sendall(bytes(1000000))
def take(connection):
    while connection.recv(1 << 20): pass
    connection.sendall(b".")
threading.Thread(target=serve, args=(9001, give)).start()
serve(9002, take)
"#;

#[derive(Parser)]
struct Options {
    /// Sandboxes to measure, one after the other
    #[arg(long, default_value_t = 3)]
    runs: usize,
    #[arg(long, default_value = "debian-13-minimal")]
    image: String,
    /// Undo each step of the cold start in turn
    #[arg(long, conflicts_with = "program_before")]
    steps: bool,
    #[command(flatten)]
    report: ReportOptions,
}

/// The exits of one sandbox, in the order of [`ACTIONS`].
type Run = Vec<Counts>;

fn main() -> Result<()> {
    let options = Options::parse();
    let scratch = tempfile::tempdir()?;
    let programs = options.report.programs(scratch.path())?;
    if options.steps {
        let bed = start_bed(&programs[0], &options.image)?;
        let rows = steps::measure(&bed, options.runs)?;
        bed.environment().run(["stop", "-q"]).success();
        let used = [("image", options.image)];
        return options
            .report
            .report("kvm-steps", used, &programs[..1], vec![rows]);
    }
    let mut rows = Vec::new();
    for (index, program) in programs.iter().enumerate() {
        let runs = measure(program, &options)?;
        if index == 0 {
            print_tables(&runs);
        }
        rows.push(to_rows(&runs)?);
    }
    let used = [("image", options.image), ("idle seconds", IDLE.to_string())];
    options.report.report("kvm", used, &programs, rows)
}

/// Starts the host with KVM. The image comes from the user's store.
fn start_bed(program: &Program, image: &str) -> Result<Bed> {
    time(&mut program.command(&["template", "build", "-q", "--image", image]))?;
    let host = sandbox::Host::from_environment()?;
    let store = host.directories().state.join("kvm-cache");
    let disk = BedDisk {
        program: program.path(),
        store: &store,
        image,
        cache: Path::new(env!("CARGO_TARGET_TMPDIR")),
    };
    let environment = TestEnvironment::new(program.path())
        .variable("SANDBOX_IMAGE", image)
        .with_bed_disk(&disk);
    fs::create_dir_all(environment.state())?;
    symlink(&store, environment.images())?;
    eprintln!("starting the host with KVM");
    let bed = Bed::start(environment);
    bed.root(&format!(
        "usermod --append --groups kvm plain\n\
         mount -t tracefs tracefs /sys/kernel/tracing 2> /dev/null || true\n\
         cat > /bed/transfers.py << 'END'{SERVER}END\n\
         systemd-run --quiet ip netns exec outside python3 /bed/transfers.py"
    ));
    Ok(bed)
}

fn measure(program: &Program, options: &Options) -> Result<Vec<Run>> {
    let bed = start_bed(program, &options.image)?;
    eprintln!("building the template");
    bed.ok("sandbox template build -q");
    let mut runs = Vec::new();
    for run in 1..=options.runs {
        eprintln!("run {run} of {}", options.runs);
        runs.push(run_once(&bed));
    }
    bed.environment().run(["stop", "-q"]).success();
    Ok(runs)
}

fn run_once(bed: &Bed) -> Run {
    let mut counted = Vec::new();
    for (name, script, times) in ACTIONS {
        if times == IDLE {
            // Work after readiness ends before the sandbox counts as idle.
            bed.ok("sleep 20");
        }
        eprintln!("  {name}");
        counted.push(count(bed, script, times));
    }
    bed.ok("sandbox stop -q");
    counted
}

/// Returns the samples of a kind of exit in an action, one of each run.
fn samples(runs: &[Run], action: usize, kind: usize) -> Vec<f64> {
    runs.iter().map(|run| run[action][kind]).collect()
}

fn to_rows(runs: &[Run]) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    let mut push = |name: String, samples: Vec<f64>| {
        rows.push(Row::new(name, Unit::Count, Better::Lower, samples)?);
        Result::Ok(())
    };
    for (action, (name, ..)) in ACTIONS.iter().enumerate() {
        for (kind, what) in KINDS.iter().enumerate() {
            push(format!("{name}: {what}"), samples(runs, action, kind))?;
        }
    }
    Ok(rows)
}

fn print_tables(runs: &[Run]) {
    println!("\n| Median (min–max) | {} |", KINDS.join(" | "));
    println!("|---{}|", "|---".repeat(KINDS.len()));
    for (action, (name, ..)) in ACTIONS.iter().enumerate() {
        let cells: Vec<String> = (0..KINDS.len())
            .map(|kind| cell(samples(runs, action, kind)))
            .collect();
        println!("| {name} | {} |", cells.join(" | "));
    }
}

pub(crate) fn cell(mut samples: Vec<f64>) -> String {
    samples.sort_by(f64::total_cmp);
    let show = |value: f64| match value < 100.0 && value.fract() != 0.0 {
        true => format!("{value:.1}"),
        false => format!("{value:.0}"),
    };
    match &samples[..] {
        [] => "-".into(),
        [least, .., most] if least != most => format!(
            "{} ({}–{})",
            show(samples[samples.len() / 2]),
            show(*least),
            show(*most)
        ),
        [one, ..] => show(*one),
    }
}
