//! The static program that runs inside the guest.
//!
//! It has three roles:
//!
//! - `/init` of the initrd ([`init`]): applies the host's seed to the root file system, copies
//!   itself to [`programs::AGENT_PATH`] and starts systemd.
//! - The service that answers the host ([`serve`]).
//! - The stand-in for login shells ([`execute::login_shell`]).
//!
//! `docs/guest-contract.md` is the contract with the host.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod async_fd;
mod base64;
mod channel;
mod cloud_init;
mod command_line;
mod credentials;
mod egress;
mod environment;
mod events;
mod execute;
mod files;
mod flush;
mod generators;
mod init;
mod kernel;
mod module_info;
mod modules;
mod mountinfo;
mod netlink;
mod network;
mod personalize;
mod power;
mod programs;
mod quiesce;
mod ready;
mod report;
mod root;
mod seed;
mod serve;
mod settle;
mod shares;
mod smbios;
mod status;
mod superblock;
mod switch_root;
mod systemctl;
mod virtio_port;

use std::os::unix::ffi::OsStrExt;
use std::process::ExitCode;

fn main() -> ExitCode {
    if rustix::process::getpid() == rustix::process::Pid::INIT {
        return init::run();
    }
    let arguments: Vec<_> = std::env::args_os().collect();
    let words: Vec<_> = arguments.iter().map(|word| word.as_bytes()).collect();
    match words[..] {
        [name, ..] if name.starts_with(b"-") => execute::login_shell::run(),
        [_, b"serve"] => serve::run(),
        [_, word] if word == root::GROW_COMMAND.as_bytes() => root::run_grow(),
        _ => {
            eprintln!("usage: guest-agent serve | {}", root::GROW_COMMAND);
            ExitCode::from(2)
        }
    }
}
