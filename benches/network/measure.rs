//! The measurements in one guest with one back end.

use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};
use std::{fs, thread};

use bench_report::{Better, Unit};
use serde_json::Value;

use super::backend::{Backend, Prepared};
use super::support::{Program, Result};
use super::tools::{Server, free_port};
use super::{output, workspace};

const NAME: &str = "bench-network";

/// The guest's address of the host's loopback, with every back end.
const HOST: &str = "10.0.2.2";

/// The number of requests in one measurement.
const REQUESTS: &str = "5000";

/// A measured quantity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Measure {
    Up,
    UpFour,
    Down,
    DownFour,
    Published,
    CpuUp,
    CpuDown,
    Connections,
    Requests,
}

pub(crate) const MEASURES: [Measure; 9] = [
    Measure::Up,
    Measure::UpFour,
    Measure::Down,
    Measure::DownFour,
    Measure::Published,
    Measure::CpuUp,
    Measure::CpuDown,
    Measure::Connections,
    Measure::Requests,
];

impl Measure {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Up => "guest to host, Mbit/s",
            Self::UpFour => "guest to host, 4 streams, Mbit/s",
            Self::Down => "host to guest, Mbit/s",
            Self::DownFour => "host to guest, 4 streams, Mbit/s",
            Self::Published => "host to guest by a published port, Mbit/s",
            Self::CpuUp => "CPU seconds per GB, guest to host",
            Self::CpuDown => "CPU seconds per GB, host to guest",
            Self::Connections => "requests/s, a connection each, 8 at once",
            Self::Requests => "requests/s on one connection",
        }
    }

    /// Returns the unit, and which values are better.
    pub(crate) fn unit(self) -> (Unit, Better) {
        match self {
            Self::Up | Self::UpFour | Self::Down | Self::DownFour | Self::Published => {
                (Unit::MegabitsPerSecond, Better::Higher)
            }
            Self::CpuUp | Self::CpuDown => (Unit::SecondsPerGigabyte, Better::Lower),
            Self::Connections | Self::Requests => (Unit::RequestsPerSecond, Better::Higher),
        }
    }
}

/// The results of one run.
pub(crate) struct Measured(Vec<(Measure, f64)>);

impl Measured {
    pub(crate) fn get(&self, measure: Measure) -> f64 {
        let found = self.0.iter().find(|(one, _)| *one == measure);
        found.map_or(f64::NAN, |(_, value)| *value)
    }
}

/// A running guest.
pub(crate) struct Sandbox<'a> {
    program: &'a Program,
    workspace: PathBuf,
    prepared: Prepared,
    port: u16,
    processes: Vec<u64>,
}

impl<'a> Sandbox<'a> {
    pub(crate) fn start(
        program: &'a Program,
        scratch: &Path,
        backend: Backend,
        image: &str,
    ) -> Result<Self> {
        let workspace = workspace(scratch);
        let port = free_port()?;
        let prepared = backend.prepare(scratch, port)?;
        let published = format!("{port}:5201");
        let mut arguments = vec![
            "--kvm",
            "-q",
            "--cold",
            "--image",
            image,
            "--name",
            NAME,
            "--network",
            "all",
        ];
        if backend == Backend::Gateway {
            arguments.extend(["-p", &published]);
        }
        let mut command = start_command(program, &workspace, &arguments);
        if let Some(directory) = &prepared.directory {
            let path = std::env::var("PATH")?;
            command.env("PATH", format!("{}:{path}", directory.display()));
        }
        output(&mut command)?;
        let info = ["info", "--json", "--name", NAME];
        let info = output(program.command(&info).stdout(std::process::Stdio::piped()))?;
        let info: Value = serde_json::from_str(&info)?;
        let mut processes: Vec<u64> = ["/qemu/pid", "/supervisor/pid"]
            .iter()
            .filter_map(|path| info.pointer(path)?.as_u64())
            .collect();
        processes.extend(prepared.passt.as_ref().map(|passt| u64::from(passt.id())));
        let sandbox = Self {
            program,
            workspace,
            prepared,
            port,
            processes,
        };
        sandbox.guest(
            "while systemctl is-system-running | grep -q starting; do sleep 1; done; true",
        )?;
        Ok(sandbox)
    }

    pub(crate) fn stop(mut self) -> Result<()> {
        output(&mut self.program.command(&["stop", "-q", NAME]))?;
        if let Some(passt) = &mut self.prepared.passt {
            // passt ends with its only client. The kill is for a passt that does not.
            passt.kill()?;
            passt.wait()?;
        }
        Ok(())
    }

    pub(crate) fn measure(&self, server: &Server, seconds: u32) -> Result<Measured> {
        let port = server.iperf_port;
        let iperf =
            |options: &str| self.iperf(&format!("-c {HOST} -p {port} -t {seconds} {options}"));
        let cpu = self.cpu_seconds()?;
        let up = iperf("")?;
        let after_up = self.cpu_seconds()?;
        let down = iperf("-R")?;
        let after_down = self.cpu_seconds()?;
        let gigabytes = |stream: &Stream| stream.bytes / 1e9;
        Ok(Measured(vec![
            (Measure::Up, up.megabits),
            (Measure::UpFour, iperf("-P 4")?.megabits),
            (Measure::Down, down.megabits),
            (Measure::DownFour, iperf("-P 4 -R")?.megabits),
            (Measure::Published, self.published(seconds)?.megabits),
            (Measure::CpuUp, (after_up - cpu) / gigabytes(&up)),
            (Measure::CpuDown, (after_down - after_up) / gigabytes(&down)),
            (Measure::Connections, self.requests(server, "-c 8")?),
            (Measure::Requests, self.requests(server, "-c 1 -k")?),
        ]))
    }

    fn guest(&self, script: &str) -> Result<String> {
        let environment = "export LD_LIBRARY_PATH=$HOME/workspace/tools/usr/lib/x86_64-linux-gnu PATH=$HOME/workspace/tools/usr/bin:$PATH";
        let script = format!("{environment}; {script}");
        let arguments = ["exec", "--name", NAME, "--", "sh", "-c", &script];
        output(
            self.program
                .command(&arguments)
                .stdout(std::process::Stdio::piped()),
        )
    }

    fn iperf(&self, arguments: &str) -> Result<Stream> {
        Stream::read(&self.guest(&format!("iperf3 -J {arguments}"))?)
    }

    /// Measures a transfer from the host through a port that is forwarded to the guest.
    fn published(&self, seconds: u32) -> Result<Stream> {
        let server = [
            "exec",
            "--name",
            NAME,
            "--",
            "sh",
            "-c",
            "LD_LIBRARY_PATH=$HOME/workspace/tools/usr/lib/x86_64-linux-gnu exec $HOME/workspace/tools/usr/bin/iperf3 -s -1",
        ];
        let mut server: Child = self.program.command(&server).spawn()?;
        let root = self.workspace.join("tools/usr");
        let mut client = Command::new(root.join("bin/iperf3"));
        client
            .env("LD_LIBRARY_PATH", root.join("lib/x86_64-linux-gnu"))
            .args(["-J", "-c", "127.0.0.1", "-p", &self.port.to_string()])
            .args(["-t", &seconds.to_string()]);
        let begin = Instant::now();
        let result = loop {
            // The guest's server needs a moment before it listens.
            match output(&mut client).and_then(|text| Stream::read(&text)) {
                Ok(stream) => break stream,
                Err(_) if begin.elapsed() < Duration::from_secs(30) => {
                    thread::sleep(Duration::from_millis(500));
                }
                Err(error) => return Err(error),
            }
        };
        server.wait()?;
        Ok(result)
    }

    fn requests(&self, server: &Server, options: &str) -> Result<f64> {
        let port = server.http_port;
        let text = self.guest(&format!(
            "ab -q -n {REQUESTS} {options} http://{HOST}:{port}/"
        ))?;
        text.lines()
            .find_map(|line| line.strip_prefix("Requests per second:"))
            .and_then(|rest| rest.split_ascii_whitespace().next()?.parse().ok())
            .ok_or_else(|| format!("could not parse the output of ab: {text}").into())
    }

    /// Returns the CPU time of QEMU, the supervisor and passt so far (proc_pid_stat(5)).
    fn cpu_seconds(&self) -> Result<f64> {
        let mut ticks = 0;
        for process in &self.processes {
            let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
            let fields = stat.rsplit(')').next().unwrap_or_default();
            let fields = fields.split_ascii_whitespace().skip(11).take(2);
            ticks += fields
                .filter_map(|field| field.parse::<u64>().ok())
                .sum::<u64>();
        }
        // USER_HZ is 100 on current Linux.
        Ok(ticks as f64 / 100.0)
    }
}

/// Returns `sandbox ARGUMENTS…` with user namespaces forbidden. QEMU's user network would
/// reach nothing from the empty network namespace that a sandbox gives to QEMU.
fn start_command(program: &Program, workspace: &Path, arguments: &[&str]) -> Command {
    let inner = program.command(arguments);
    let mut command = Command::new("unshare");
    command
        .args(["--user", "--map-root-user", "sh", "-c"])
        .arg("echo 0 > /proc/sys/user/max_user_namespaces && exec \"$0\" \"$@\"")
        .arg(inner.get_program())
        .args(inner.get_args())
        .envs(
            inner
                .get_envs()
                .filter_map(|(key, value)| Some((key, value?))),
        )
        .current_dir(workspace)
        .stdin(std::process::Stdio::null());
    command
}

/// The receiver's report of a transfer by iperf3.
struct Stream {
    bytes: f64,
    megabits: f64,
}

impl Stream {
    fn read(text: &str) -> Result<Self> {
        let report: Value = serde_json::from_str(text)?;
        let received = &report["end"]["sum_received"];
        match (
            &received["bytes"].as_f64(),
            &received["bits_per_second"].as_f64(),
        ) {
            (Some(bytes), Some(bits)) => Ok(Self {
                bytes: *bytes,
                megabits: bits / 1e6,
            }),
            _ => Err(format!("iperf3 failed: {}", report["error"]).into()),
        }
    }
}
