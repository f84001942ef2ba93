//! Measures the gain of each step of the cold start: the time to readiness with all steps,
//! and without one of them, in turn.
//!
//! QEMU's command line, the seed and the initrd come from a real sandbox. A row changes the
//! part that it names. The guest units that a row starts in place of the original ones lie
//! in a disk layer that all rows share. The measured time is from the execution of QEMU to
//! the guest's event of readiness.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use bench_report::{Better, Row};

use super::stock::Running;
use super::support::{Program, Result, time};
use super::table;

/// How long one start may take.
const PATIENCE: Duration = Duration::from_secs(180);

/// The sandbox whose machine is copied.
const NAME: &str = "bench-steps";

/// The script that builds Debian's initramfs, and targets that boot in another order. Root
/// runs it in the workspace.
const PREPARE: &str = include_str!("steps/prepare.sh");

/// The name of a row, and the QEMU command line without the named step.
type Step = (&'static str, fn(&Machines) -> Vec<String>);

const STEPS: [Step; 13] = [
    ("all steps", |machines| machines.plain.clone()),
    (
        "own init: Debian's initramfs, shares and generators by systemd",
        |machines| {
            let mut argv = machines.plain.clone();
            debian_initramfs(&mut argv, machines);
            argv
        },
    ),
    ("PVH: Debian's compressed kernel, by the BIOS", |machines| {
        let mut argv = machines.plain.clone();
        set(&mut argv, "-kernel", machines.file("vmlinuz"));
        argv
    }),
    ("the trimmed machine: all of q35", |machines| {
        let mut argv = machines.plain.clone();
        set(&mut argv, "-machine", "q35".into());
        argv
    }),
    ("a processor without SVM: `-cpu max`", |machines| {
        let mut argv = machines.plain.clone();
        whole_processor(&mut argv);
        argv
    }),
    ("memory by words: ERMS and FSRM, by bytes", |machines| {
        let mut argv = machines.plain.clone();
        change(&mut argv, "-cpu", |model| {
            model.replace(",erms=off,fsrm=off", "")
        });
        argv
    }),
    ("the kernel's parameters for emulation", |machines| {
        let mut argv = machines.plain.clone();
        plain_command_line(&mut argv);
        argv
    }),
    ("a quiet kernel", |machines| {
        let mut argv = machines.plain.clone();
        change(&mut argv, "-append", |line| line.replace(" quiet", ""));
        argv
    }),
    ("Landlock alone: every security module", |machines| {
        let mut argv = machines.plain.clone();
        change(&mut argv, "-append", |line| {
            line.replace(" lsm=landlock", "")
        });
        argv
    }),
    ("few units loaded: nearly all of Debian's", |machines| {
        let mut argv = machines.plain.clone();
        boot_to(&mut argv, "bench-units.target");
        argv
    }),
    ("sshd by its socket: before readiness", |machines| {
        let mut argv = machines.plain.clone();
        boot_to(&mut argv, "bench-sshd.target");
        argv
    }),
    ("the rest of Debian later: before readiness", |machines| {
        let mut argv = machines.plain.clone();
        boot_to(&mut argv, "bench-everything.target");
        argv
    }),
    ("cloud-init off: with a cloud-config", |machines| {
        machines.with_cloud_init.clone()
    }),
];

fn debian_initramfs(argv: &mut [String], machines: &Machines) {
    set(argv, "-initrd", machines.file("initrd.img"));
    boot_to(argv, "bench-mounts.target");
}

fn whole_processor(argv: &mut [String]) {
    change(argv, "-cpu", |model| model.replace(",svm=off", ""));
}

/// Keeps the kernel command line of the image, without the additions for emulation.
fn plain_command_line(argv: &mut [String]) {
    change(argv, "-append", |line| {
        let end = line.find(" mitigations=").unwrap_or(line.len());
        line[..end].to_owned()
    });
}

fn boot_to(argv: &mut [String], target: &str) {
    change(argv, "-append", |line| {
        line.replace("sandbox.target", target)
    });
}

/// Changes the value of an option.
fn change(argv: &mut [String], option: &str, value: impl FnOnce(&str) -> String) {
    let position = argv.iter().position(|word| word == option);
    if let Some(old) = position.and_then(|position| argv.get_mut(position + 1)) {
        *old = value(old);
    }
}

fn set(argv: &mut [String], option: &str, value: String) {
    change(argv, option, |_| value);
}

/// Measures every row `runs` times and prints the table. Returns its rows.
pub(super) fn run(program: &Program, scratch: &Path, image: &str, runs: usize) -> Result<Vec<Row>> {
    let machines = Machines::prepare(program, scratch, image)?;
    let mut times = vec![Vec::new(); STEPS.len()];
    for run in 1..=runs {
        eprintln!("run {run} of {runs}");
        for ((name, argv), times) in STEPS.iter().zip(&mut times) {
            let argv = argv(&machines);
            let time = machines.time_to_readiness(&argv);
            let time = time.map_err(|error| format!("without {name}: {error}"))?;
            eprintln!("    {name}: {:.2} s", time.as_secs_f64());
            times.push(time);
        }
    }
    let rows = STEPS.iter().zip(times);
    let rows = rows.map(|((name, _), times)| table::times(*name, Better::Lower, times));
    let rows = rows.collect::<Result<Vec<Row>>>()?;
    table::print_costs("Readiness, cold, with all steps or without", &rows);
    Ok(rows)
}

/// QEMU's command lines, and the directory with all their files.
struct Machines {
    directory: PathBuf,
    plain: Vec<String>,
    with_cloud_init: Vec<String>,
}

impl Machines {
    fn prepare(program: &Program, scratch: &Path, image: &str) -> Result<Self> {
        let directory = scratch.join("machine");
        fs::create_dir(&directory)?;
        let config = scratch.join("cloud-config.yaml");
        fs::write(&config, "#cloud-config\nruncmd:\n- [\"true\"]\n")?;
        fs::write(scratch.join("prepare.sh"), PREPARE)?;
        let mut machines = Self {
            plain: Vec::new(),
            with_cloud_init: Vec::new(),
            directory,
        };
        eprintln!("building an initramfs");
        machines.plain = machines.take(program, &["--image", image], "plain", || {
            let exec = ["exec", "--name", NAME, "--", "sudo", "sh", "prepare.sh"];
            time(&mut program.command(&exec)).map(drop)
        })?;
        for file in ["initrd.img", "vmlinuz"] {
            fs::copy(scratch.join(file), machines.directory.join(file))?;
        }
        fs::rename(
            machines.directory.join("plain/overlay.qcow2"),
            machines.directory.join("layer.qcow2"),
        )?;
        let config = config.to_str().ok_or("a path that is not UTF-8")?;
        let flags = ["--image", image, "--cloud-init", config];
        machines.with_cloud_init = machines.take(program, &flags, "cloud-init", || Ok(()))?;
        Ok(machines)
    }

    /// Starts a sandbox, runs `prepare` in it, and copies the files of its machine. Returns
    /// QEMU's command line with the paths of the copies.
    fn take(
        &self,
        program: &Program,
        flags: &[&str],
        part: &str,
        prepare: impl FnOnce() -> Result<()>,
    ) -> Result<Vec<String>> {
        let start = [&["--kvm", "--cold", "-q", "--name", NAME], flags].concat();
        time(&mut program.command(&start))?;
        let taken = prepare().and_then(|()| self.copy_machine(program, part));
        time(&mut program.command(&["stop", "-q", "--name", NAME]))?;
        taken
    }

    fn copy_machine(&self, program: &Program, part: &str) -> Result<Vec<String>> {
        let output = program
            .command(&["info", "--json", "--name", NAME])
            .stdout(Stdio::piped())
            .output()?;
        let info: serde_json::Value = serde_json::from_slice(&output.stdout)?;
        let state = info["state_directory"].as_str().ok_or("no state")?;
        let pid = info["qemu"]["pid"].as_u64().ok_or("no QEMU")?;
        let to = self.directory.join(part);
        fs::create_dir(&to)?;
        let copy = ["seed", "initrd", "overlay.qcow2"].map(|name| Path::new(state).join(name));
        time(Command::new("cp").arg("-r").args(copy).arg(&to))?;
        let to = to.to_str().ok_or("a path that is not UTF-8")?;
        let command_line = fs::read(format!("/proc/{pid}/cmdline"))?;
        let argv = command_line.split(|byte| *byte == 0).map(|word| {
            let word = String::from_utf8_lossy(word).replace(state, to);
            match word.starts_with("stream,id=net,") {
                // Without a gateway, the NIC gets a network with no other member.
                true => "hubport,id=net,hubid=0".into(),
                false => word,
            }
        });
        // The split returns an empty word after the last null byte.
        let mut argv: Vec<String> = argv.collect();
        argv.pop();
        Ok(argv)
    }

    fn file(&self, name: &str) -> String {
        self.directory.join(name).to_string_lossy().into_owned()
    }

    fn time_to_readiness(&self, argv: &[String]) -> Result<Duration> {
        let [program, arguments @ ..] = argv else {
            return Err("no command line".into());
        };
        let part = match argv == self.with_cloud_init {
            true => "cloud-init",
            false => "plain",
        };
        let part = self.directory.join(part);
        let disk = part.join("overlay.qcow2");
        let events = part.join("events.sock");
        for old in [&disk, &events] {
            if old.exists() {
                fs::remove_file(old)?;
            }
        }
        sandbox_qemu::overlay::create(&disk, &self.directory.join("layer.qcow2"), 20 << 30)?;
        let started = Instant::now();
        let qemu = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .spawn()?;
        let _qemu = Running(qemu);
        let guest = loop {
            match UnixStream::connect(&events) {
                Ok(stream) => break stream,
                Err(error) if started.elapsed() > PATIENCE => return Err(error.into()),
                Err(_) => std::thread::sleep(Duration::from_millis(1)),
            }
        };
        guest.set_read_timeout(Some(PATIENCE))?;
        for line in BufReader::new(guest).lines() {
            let line = line?;
            if line.contains(r#""event":"ready""#) {
                return Ok(started.elapsed());
            }
            if line.contains(r#""event":"failed""#) {
                return Err(line.into());
            }
        }
        Err("QEMU ended before the guest was ready".into())
    }
}
