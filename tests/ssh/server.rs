//! A private OpenSSH server, with its own directory and keys, on loopback only.

use std::io::{BufRead, BufReader, Read};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{fs, thread};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::{Pid, User, getuid};
use sandbox::Endpoint;
use sandbox::inside::{KeyFiles, Keys};
use tempfile::TempDir;

const SSHD: &str = "/usr/sbin/sshd";

/// A running server. Dropping it kills the server and its children.
pub(crate) struct Server {
    pub(crate) directory: TempDir,
    pub(crate) port: u16,
    process: Child,
}

impl Server {
    /// Starts a server that accepts the user of this process.
    pub(crate) fn start() -> Self {
        assert!(
            Path::new(SSHD).exists(),
            "`{SSHD}` is missing: install the package `openssh-server`"
        );
        // An sshd of root needs this directory, which the package creates at boot.
        if getuid().is_root() {
            fs::create_dir_all("/run/sshd").unwrap();
        }
        let directory = tempfile::tempdir().unwrap();
        let keys = KeyFiles::in_directory(directory.path());
        keys.write("test", &Keys::generate("test").unwrap())
            .unwrap();
        // Another process may take the port before sshd does, so several ports are tried.
        for _ in 0..10 {
            let port = free_port();
            let configuration = directory.path().join("sshd_config");
            fs::write(&configuration, sshd_config(&keys, port)).unwrap();
            let mut process = Command::new(SSHD)
                .args(["-D", "-e", "-f"])
                .arg(&configuration)
                .stdin(Stdio::null())
                .stderr(Stdio::piped())
                .process_group(0)
                .spawn()
                .unwrap();
            let mut lines = BufReader::new(process.stderr.take().unwrap());
            let mut line = String::new();
            while lines.read_line(&mut line).unwrap() > 0 {
                if line.contains("Server listening on") {
                    thread::spawn(move || {
                        let mut rest = Vec::new();
                        let _ = lines.read_to_end(&mut rest);
                    });
                    return Self {
                        directory,
                        port,
                        process,
                    };
                }
            }
            process.wait().unwrap();
            eprintln!("sshd did not start: {line}");
        }
        panic!("could not start sshd");
    }

    /// Returns the endpoint of the server.
    pub(crate) fn endpoint(&self) -> Endpoint {
        let keys = self.keys();
        Endpoint {
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, self.port)),
            user: user(),
            identity: keys.identity(),
            host_key: keys.read_host_key().unwrap(),
            host_key_alias: "test".into(),
            known_hosts: keys.known_hosts(),
        }
    }

    /// Returns the keys of the server.
    pub(crate) fn keys(&self) -> KeyFiles {
        KeyFiles::in_directory(self.directory.path())
    }

    /// Kills the server and all its sessions, as at the end of a VM.
    pub(crate) fn kill(&self) {
        for process in processes_below(self.process.id()) {
            // The process may already have ended.
            let _ = nix::sys::signal::kill(Pid::from_raw(process as i32), Signal::SIGKILL);
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        let _ = killpg(Pid::from_raw(self.process.id() as i32), Signal::SIGKILL);
        self.process.wait().unwrap();
    }
}

/// Returns a process and its descendants, from the `children` files of proc(5).
fn processes_below(process: u32) -> Vec<u32> {
    let children = fs::read_to_string(format!("/proc/{process}/task/{process}/children"));
    let mut all = vec![process];
    for child in children.unwrap_or_default().split_whitespace() {
        all.extend(processes_below(child.parse().unwrap()));
    }
    all
}

fn sshd_config(keys: &KeyFiles, port: u16) -> String {
    let quoted = |path: PathBuf| format!("\"{}\"", path.display());
    format!(
        "ListenAddress 127.0.0.1\nPort {port}\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\n\
         UsePAM no\nStrictModes no\nPasswordAuthentication no\nPermitRootLogin yes\n\
         MaxStartups 100\n",
        quoted(keys.host_key()),
        quoted(keys.identity_public()),
    )
}

fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap().port()
}

/// Returns the user who runs the test.
pub(crate) fn user() -> String {
    User::from_uid(getuid()).unwrap().unwrap().name
}

/// Returns a deadline that only a hang reaches.
pub(crate) fn deadline() -> Instant {
    Instant::now() + Duration::from_secs(60)
}
