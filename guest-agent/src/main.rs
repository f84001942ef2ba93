//! The static program that runs inside the guest.
//!
//! As `/init` of the initrd it prepares the root file system from what the
//! host handed over and starts Debian's systemd ([`init`]). It leaves a copy
//! of itself at [`AGENT_PATH`], which units of the image call by subcommand:
//! `ready` ([`ready`]) and `power` ([`power`]).
//!
//! The agreement with the host is written down in `docs/guest-contract.md`.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod base64;
mod command_line;
mod credentials;
mod environment;
mod events;
mod files;
mod generators;
mod init;
mod module_info;
mod modules;
mod netlink;
mod network;
mod power;
mod ready;
mod report;
mod root;
mod seed;
mod shares;
mod smbios;
mod superblock;
mod switch_root;

use std::process::ExitCode;

/// Where the running guest finds this program; on the tmpfs of `/run`.
const AGENT_PATH: &str = "/run/sandbox/guest-agent";

fn main() -> ExitCode {
    if rustix::process::getpid() == rustix::process::Pid::INIT {
        return init::run();
    }
    match std::env::args().nth(1).as_deref() {
        Some("ready") => ready::run(),
        Some("power") => power::run(),
        _ => {
            eprintln!("usage: guest-agent ready|power");
            ExitCode::from(2)
        }
    }
}
