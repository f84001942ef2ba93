//! The measuring programs, from Debian's packages.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::{fs, thread};

use super::support::Result;
use super::{output, workspace};

/// The unpacked packages, with libraries that a minimal guest lacks.
const PACKAGES: [&str; 5] = [
    "iperf3",
    "libiperf0",
    "libsctp1",
    "apache2-utils",
    "libapr1",
];
const LIBRARIES: [&str; 1] = ["libaprutil1"];

/// The answer of the host's HTTP server.
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\nhello, guest";

pub(crate) struct Tools {
    root: PathBuf,
}

impl Tools {
    /// Unpacks the packages below the workspace.
    pub(crate) fn unpack(scratch: &Path) -> Result<Self> {
        let root = workspace(scratch).join("tools");
        let packages = scratch.join("packages");
        let unpacked = scratch.join("unpacked");
        for directory in [&workspace(scratch), &packages, &unpacked] {
            fs::create_dir_all(directory)?;
        }
        output(
            Command::new("apt-get")
                .arg("download")
                .args(PACKAGES)
                .args(LIBRARIES)
                .current_dir(&packages),
        )?;
        for package in fs::read_dir(&packages)? {
            let package = package?.path();
            let mut unpack = Command::new("dpkg-deb");
            output(unpack.arg("-x").arg(package).arg(&unpacked))?;
        }
        // The guest sees no links of the host in a mapped share, so `-L` copies their targets.
        let mut copy = Command::new("cp");
        output(copy.arg("-rL").args([&unpacked, &root]))?;
        Ok(Self { root })
    }

    /// Starts the servers on the host.
    pub(crate) fn serve(&self) -> Result<Server> {
        let port = free_port()?;
        let iperf = Command::new(self.root.join("usr/bin/iperf3"))
            .args(["-s", "-B", "127.0.0.1", "-p", &port.to_string()])
            .env(
                "LD_LIBRARY_PATH",
                self.root.join("usr/lib/x86_64-linux-gnu"),
            )
            .stdout(Stdio::null())
            .spawn()?;
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let http_port = listener.local_addr()?.port();
        thread::spawn(move || answer_requests(&listener));
        Ok(Server {
            iperf,
            iperf_port: port,
            http_port,
        })
    }
}

/// The servers on the host's loopback.
pub(crate) struct Server {
    iperf: Child,
    pub(crate) iperf_port: u16,
    pub(crate) http_port: u16,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.iperf.kill();
        let _ = self.iperf.wait();
    }
}

/// Returns a free port.
pub(crate) fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Answers every request with the same bytes.
fn answer_requests(listener: &TcpListener) {
    for client in listener.incoming().flatten() {
        thread::spawn(move || {
            let mut client = client;
            let mut request = Vec::new();
            let mut buffer = [0; 4096];
            while let Ok(count) = client.read(&mut buffer) {
                request.extend_from_slice(&buffer[..count]);
                let whole = request.ends_with(b"\r\n\r\n");
                let keep = request.windows(10).any(|word| word == b"Keep-Alive");
                if whole {
                    request.clear();
                }
                if count == 0 || whole && (client.write_all(&answer(keep)).is_err() || !keep) {
                    return;
                }
            }
        });
    }
}

fn answer(keep: bool) -> Vec<u8> {
    let connection = if keep { "keep-alive" } else { "close" };
    let head = format!("HTTP/1.1 200 OK\r\nConnection: {connection}\r\n");
    let mut answer = head.into_bytes();
    answer.extend_from_slice(&ANSWER["HTTP/1.1 200 OK\r\n".len()..]);
    answer
}
