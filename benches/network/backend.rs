//! The back end of the guest's NIC.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::support::Result;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Backend {
    /// The gateway of `sandbox`.
    Gateway,
    /// `-netdev user`.
    User,
    /// passt(1).
    Passt,
}

impl Backend {
    /// Returns the back ends that this host has.
    pub(crate) fn available() -> Vec<Self> {
        let mut backends = vec![Self::Gateway, Self::User];
        if Command::new("passt").arg("--version").output().is_ok() {
            backends.push(Self::Passt);
        }
        backends
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::User => "user network",
            Self::Passt => "passt",
        }
    }

    /// Writes a `qemu-system-x86_64` with this back end, which forwards `port` on the host's
    /// loopback to port 5201 of the guest.
    pub(crate) fn prepare(self, scratch: &Path, port: u16) -> Result<Prepared> {
        let directory = scratch.join(format!("bin-{}", self.name().replace(' ', "-")));
        fs::create_dir_all(&directory)?;
        let socket = scratch.join("passt.socket");
        let netdev = match self {
            Self::Gateway => {
                return Ok(Prepared {
                    directory: None,
                    passt: None,
                });
            }
            Self::User => format!("user,id=net,hostfwd=tcp:127.0.0.1:{port}-:5201"),
            Self::Passt => format!(
                "stream,id=net,server=off,addr.type=unix,addr.path={}",
                socket.display()
            ),
        };
        // libslirp does not support large packets, passt does.
        let mtu = match self {
            Self::User => "s/,host_mtu=65520//",
            _ => "",
        };
        let script = format!(
            "#!/bin/bash\nwords=()\nwhile [ $# -gt 0 ]; do\n  case $1 in\n    stream,id=net,*) words+=('{netdev}') ;;\n    virtio-net-pci,*) words+=(\"$(echo \"$1\" | sed '{mtu}')\") ;;\n    *) words+=(\"$1\") ;;\n  esac\n  shift\ndone\nexec {} \"${{words[@]}}\"\n",
            real_qemu()?.display()
        );
        let path = directory.join("qemu-system-x86_64");
        fs::write(&path, script)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        let passt = match self {
            Self::Passt => Some(start_passt(&socket, port)?),
            _ => None,
        };
        Ok(Prepared {
            directory: Some(directory),
            passt,
        })
    }
}

/// A back end that is ready.
pub(crate) struct Prepared {
    /// The directory to put first on the PATH.
    pub(crate) directory: Option<PathBuf>,
    /// The process of passt.
    pub(crate) passt: Option<Child>,
}

fn real_qemu() -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|directory| directory.join("qemu-system-x86_64"))
        .find(|program| program.exists())
        .ok_or_else(|| "`qemu-system-x86_64` not found".into())
}

fn start_passt(socket: &Path, port: u16) -> Result<Child> {
    let _ = fs::remove_file(socket);
    let child = Command::new("passt")
        .args(["--foreground", "--quiet", "--socket"])
        .arg(socket)
        .args(["--address", "10.0.2.15", "--netmask", "24"])
        // Packets to the gateway address reach the host's loopback.
        .args(["--gateway", "10.0.2.2"])
        .args(["--tcp-ports", &format!("127.0.0.1/{port}:5201")])
        // As root, passt would change to `nobody`, who cannot enter this directory.
        .args(["--runas", "0:0"])
        .stdin(Stdio::null())
        .spawn()?;
    let begin = Instant::now();
    while !socket.exists() {
        if begin.elapsed() > Duration::from_secs(10) {
            return Err("passt did not listen in time".into());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(child)
}
