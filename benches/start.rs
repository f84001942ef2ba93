//! Times a start, by phases, against plain QEMU with the stock recipe.
//!
//! `cargo bench --bench start -- [--runs N] [--image NAME]` prints the tables
//! that docs/performance.md quotes. Both are run in turn, so that a machine
//! whose speed drifts slows both. The stock guest (pc machine, distribution
//! kernel and initrd, cloud-init, SSH asked every 2 s) is built once into
//! `target/bench/`, with mmdebstrap as root.

#[path = "start/stock.rs"]
mod stock;

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use sandbox::host::directories::Directories;
use sandbox::sandbox::control::{Connection, Request};
use sandbox::sandbox::{Event, SandboxName, StateLayout};

/// The sandbox that is started again and again.
const NAME: &str = "bench-start";

/// Longest that any one start may take.
const PATIENCE: Duration = Duration::from_secs(600);

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

struct Options {
    runs: usize,
    image: String,
}

impl Options {
    /// `cargo bench` adds `--bench` by itself.
    fn from_arguments() -> Result<Self> {
        let mut options = Self {
            runs: 5,
            image: "debian-13-minimal".into(),
        };
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            let mut value = || {
                arguments
                    .next()
                    .ok_or(format!("`{argument}` wants a value"))
            };
            match argument.as_str() {
                "--runs" => options.runs = value()?.parse()?,
                "--image" => options.image = value()?,
                "--bench" => {}
                _ => return Err(format!("unknown argument `{argument}`").into()),
            }
        }
        Ok(options)
    }
}

fn main() -> Result<()> {
    let options = Options::from_arguments()?;
    let scratch = tempfile::tempdir()?;
    let stock = stock::Guest::obtain(Path::new(env!("CARGO_MANIFEST_DIR")).join("target/bench"))?;
    // Builds the image, and remembers the verdict about KVM, before anything
    // is timed.
    run_once(&options, scratch.path())?;
    let mut phases = Vec::new();
    let mut stock_times = Vec::new();
    let mut overheads = Vec::new();
    for run in 1..=options.runs {
        eprintln!("run {run} of {}", options.runs);
        phases.push(run_once(&options, scratch.path())?);
        stock_times.push(stock.time_to_first_ssh(PATIENCE)?);
        overheads.push(time(&mut sandbox_command(scratch.path(), &["list"]))?);
    }
    print_tables(&phases, &stock_times, &overheads);
    Ok(())
}

fn sandbox_command(directory: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sandbox"));
    command
        .args(arguments)
        .current_dir(directory)
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    command
}

fn time(command: &mut Command) -> Result<Duration> {
    let started = Instant::now();
    if !command.status()?.success() {
        return Err(format!("{command:?} failed").into());
    }
    Ok(started.elapsed())
}

/// When each phase of one `sandbox run -- true` ended, from its start.
#[derive(Clone, Copy)]
struct Phases {
    command_line: Duration,
    files: Duration,
    kernel: Duration,
    init: Duration,
    userspace: Duration,
    first_command: Duration,
    stop: Duration,
}

/// One figure of a run.
type Measure = fn(&Phases) -> Duration;

fn run_once(options: &Options, directory: &Path) -> Result<Phases> {
    let arguments = [
        "run",
        "-q",
        "--name",
        NAME,
        "--image",
        &options.image,
        "--",
        "true",
    ];
    let started = Instant::now();
    let mut child = sandbox_command(directory, &arguments).spawn()?;
    let events = listen(started)?;
    let status = child.wait()?;
    let end = started.elapsed();
    if !status.success() {
        return Err(format!("`sandbox {}` ended with {status}", arguments.join(" ")).into());
    }
    Ok(Phases {
        stop: end,
        ..events
    })
}

/// Listens to the supervisor of a start that is under way. What it says of
/// itself counts from its own start, which is found from the arrival of the
/// event of readiness.
fn listen(started: Instant) -> Result<Phases> {
    let directories = Directories::from_environment()?;
    let name: SandboxName = NAME.parse()?;
    let socket = StateLayout::new(&directories, &name).control_socket();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut connection = connect(&socket, started).await?;
        let mut times = std::collections::HashMap::new();
        loop {
            let Some(event) = connection.next_event().await? else {
                return Err("the supervisor ended before it said so".into());
            };
            let key = match event.event {
                Event::Preparing => "files begin",
                Event::Booting { .. } => "files",
                Event::KernelUp => "kernel",
                Event::SystemdStarting => "init",
                Event::Ready { .. } => {
                    let origin = started.elapsed().saturating_sub(event.elapsed());
                    times.insert("origin", origin);
                    "userspace"
                }
                Event::Stopping => "first command",
                Event::Ended { .. } => break,
                _ => continue,
            };
            times.insert(key, event.elapsed());
        }
        let at = |key: &str| -> Result<Duration> {
            let origin = times.get("origin").ok_or("the guest was never ready")?;
            let elapsed = times.get(key).ok_or(format!("no event for `{key}`"))?;
            Ok(*origin + *elapsed)
        };
        Ok(Phases {
            command_line: at("files begin")?,
            files: at("files")?,
            kernel: at("kernel")?,
            init: at("init")?,
            userspace: at("userspace")?,
            first_command: at("first command")?,
            stop: Duration::ZERO,
        })
    })
}

async fn connect(socket: &Path, started: Instant) -> Result<Connection> {
    loop {
        match Connection::open(socket, Request::Subscribe).await {
            Ok(connection) => return Ok(connection),
            Err(error) if started.elapsed() > PATIENCE => return Err(error.into()),
            Err(_) => tokio::time::sleep(Duration::from_millis(1)).await,
        }
    }
}

fn print_tables(phases: &[Phases], stock: &[Duration], overheads: &[Duration]) {
    let rows: [(&str, Measure); 7] = [
        ("command line: settings, image check, plan", |at| {
            at.command_line
        }),
        ("seed, keys, overlay, initrd, QEMU exec", |at| {
            at.files - at.command_line
        }),
        ("QEMU start and kernel, to init", |at| at.kernel - at.files),
        ("init, to systemd", |at| at.init - at.kernel),
        ("userspace, to readiness", |at| at.userspace - at.init),
        ("first command", |at| at.first_command - at.userspace),
        ("stop, to nothing left", |at| at.stop - at.first_command),
    ];
    println!("| Phase of `sandbox run -- true` | min | median | max |");
    println!("|---|---|---|---|");
    for (name, duration) in rows {
        print_row(name, phases.iter().map(duration));
    }
    print_row("**to readiness**", phases.iter().map(|at| at.userspace));
    print_row(
        "**to the end of the first command**",
        phases.iter().map(|at| at.first_command),
    );
    print_row("**whole command**", phases.iter().map(|at| at.stop));
    print_row(
        "stock recipe, to its first `ssh … true`",
        stock.iter().copied(),
    );
    print_row(
        "`sandbox list`, which needs no guest",
        overheads.iter().copied(),
    );
    println!();
    println!("| Ratio, run by run | min | median | max |");
    println!("|---|---|---|---|");
    let ratios = |of: Measure| {
        let mut ratios: Vec<f64> = phases
            .iter()
            .zip(stock)
            .map(|(ours, stock)| of(ours).as_secs_f64() / stock.as_secs_f64())
            .collect();
        ratios.sort_by(f64::total_cmp);
        ratios
    };
    for (name, of) in [
        (
            "readiness / stock",
            (|at| at.userspace) as fn(&Phases) -> Duration,
        ),
        ("first command done / stock", |at| at.first_command),
        ("whole command / stock", |at| at.stop),
    ] {
        let sorted = ratios(of);
        println!(
            "| {name} | {:.3} | {:.3} | {:.3} |",
            sorted[0],
            sorted[sorted.len() / 2],
            sorted[sorted.len() - 1]
        );
    }
}

fn print_row(name: &str, durations: impl Iterator<Item = Duration>) {
    let mut sorted: Vec<Duration> = durations.collect();
    sorted.sort();
    println!(
        "| {name} | {} | {} | {} |",
        show(sorted[0]),
        show(sorted[sorted.len() / 2]),
        show(sorted[sorted.len() - 1])
    );
}

fn show(duration: Duration) -> String {
    match duration.as_secs_f64() {
        seconds if seconds < 0.1 => format!("{:.1} ms", seconds * 1000.0),
        seconds => format!("{seconds:.2} s"),
    }
}
