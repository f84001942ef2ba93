//! The same connection for OpenSSH's `ssh`, and how its options are quoted.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use super::client::Endpoint;

/// The options of ssh_config(5) that lead to `endpoint`, in the order in which they read best.
/// Values are bytes: paths need not be UTF-8.
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

/// A path as the value of an option: in double quotes, with `\` before quotes and backslashes, and
/// percent signs doubled, since `%` introduces a token in these options.
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

/// The `ssh` command that connects to `endpoint` without any configuration file; more options, or
/// the command to run, may follow.
pub fn openssh_command(endpoint: &Endpoint) -> Vec<OsString> {
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
