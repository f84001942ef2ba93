//! The SSH endpoint of a sandbox, and OpenSSH's options for it.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// The SSH endpoint of one user of a sandbox.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// The forwarded port on the loopback interface.
    pub address: SocketAddr,
    /// The user in the guest.
    pub user: String,
    /// The file with the client's private key.
    pub identity: PathBuf,
    /// The only accepted host key, in OpenSSH's text form.
    pub host_key: String,
    /// The name of the host key in `known_hosts`.
    pub host_key_alias: String,
    /// The sandbox's own `known_hosts` file, for OpenSSH.
    pub known_hosts: PathBuf,
}

/// Returns the options of ssh_config(5) for `endpoint`. Values are bytes, since paths may not be
/// UTF-8.
pub(super) fn options(endpoint: &Endpoint) -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("HostName", endpoint.address.ip().to_string().into()),
        ("Port", endpoint.address.port().to_string().into()),
        ("User", endpoint.user.clone().into()),
        ("IdentityFile", path_value(&endpoint.identity)),
        ("IdentitiesOnly", "yes".into()),
        ("HostKeyAlias", endpoint.host_key_alias.clone().into()),
        ("UserKnownHostsFile", path_value(&endpoint.known_hosts)),
        ("GlobalKnownHostsFile", "none".into()),
        ("StrictHostKeyChecking", "yes".into()),
        ("UpdateHostKeys", "no".into()),
        ("LogLevel", "ERROR".into()),
    ]
}

/// Returns a path as an option's value: in double quotes, with `\` before quotes and backslashes.
/// It doubles percent signs, since `%` starts a token in these options.
fn path_value(path: &Path) -> Vec<u8> {
    let mut value = vec![b'"'];
    for &byte in path.as_os_str().as_bytes() {
        match byte {
            b'"' | b'\\' => value.extend([b'\\', byte]),
            b'%' => value.extend(b"%%"),
            _ => value.push(byte),
        }
    }
    value.push(b'"');
    value
}

impl Endpoint {
    /// Returns the `ssh` command that connects without a configuration file. Options or a remote
    /// command may follow.
    pub fn openssh_command(&self) -> Vec<OsString> {
        openssh_command(self)
    }
}

fn openssh_command(endpoint: &Endpoint) -> Vec<OsString> {
    let mut argv: Vec<OsString> = vec!["ssh".into(), "-F".into(), "none".into()];
    for (name, value) in options(endpoint) {
        if matches!(name, "HostName" | "Port" | "User") {
            continue;
        }
        argv.push("-o".into());
        argv.push(OsString::from_vec([name.as_bytes(), b"=", &value].concat()));
    }
    argv.push("-p".into());
    argv.push(endpoint.address.port().to_string().into());
    argv.push(format!("{}@{}", endpoint.user, endpoint.address.ip()).into());
    argv
}
