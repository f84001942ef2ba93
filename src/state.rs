//! The paths in the state directory of one sandbox.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::ssh::keys::KeyFiles;
use crate::ssh::{Endpoint, KeyError};
use sandbox_gateway::access_log;
use sandbox_host::directories::Directories;
use sandbox_spec::{Digest, SandboxName};

/// The maximum length of a Unix socket's path, in bytes, without the final NUL (unix(7)).
const SOCKET_PATH_LIMIT: usize = 107;

/// The paths of one sandbox's state. A pure value, which does not access the file system.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateLayout {
    directory: PathBuf,
    /// The directory of the sockets: the state directory, or a separate short one if the state
    /// directory's path is too long for a socket's address.
    sockets: PathBuf,
}

macro_rules! paths {
    ($($(#[$documentation:meta])* $method:ident = $base:ident / $name:literal;)*) => {
        $($(#[$documentation])* pub fn $method(&self) -> PathBuf { self.$base.join($name) })*
    };
}

impl StateLayout {
    /// Returns the layout of the sandbox `name`.
    pub fn new(directories: &Directories, name: &SandboxName) -> Self {
        Self::at(directories.sandboxes().join(name.as_str()), directories)
    }

    /// Returns the layout of a guest whose files lie in `directory`.
    pub fn at(directory: PathBuf, directories: &Directories) -> Self {
        let longest = directory.join("agent-port.sock");
        let sockets = if longest.as_os_str().len() <= SOCKET_PATH_LIMIT {
            directory.clone()
        } else {
            directories.runtime.join(short_name(&directory))
        };
        Self { directory, sockets }
    }

    /// Returns the state directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Returns the directory of the sockets, if it is not the state directory.
    pub fn short_socket_directory(&self) -> Option<&Path> {
        (self.sockets != self.directory).then_some(&*self.sockets)
    }

    paths! {
        /// Returns the path of the lock, which the supervisor holds while the sandbox exists.
        lock = directory / "lock";
        /// Returns the path of the record, a [`Record`](crate::Record) in JSON.
        record = directory / "sandbox.json";
        /// Returns the path of a file that contains only the workspace's path, for scripts.
        workspace_path = directory / "workspace.path";
        /// Returns the path of a file that contains only the forwarded SSH port, for scripts.
        ssh_port = directory / "ssh.port";
        /// Returns the path of QEMU's pid file, which QEMU writes.
        qemu_pid = directory / "qemu.pid";
        /// Returns the path of the disk overlay.
        overlay = directory / "overlay.qcow2";
        /// Returns the path of the composed initial RAM disk.
        initrd = directory / "initrd";
        /// Returns the path of the serial console's log.
        console_log = directory / "console.log";
        /// Returns the path of the console log's rotated part.
        console_log_rotated = directory / "console.log.1";
        /// Returns the path of the supervisor's log.
        supervisor_log = directory / "supervisor.log";
        /// Returns the path of the log of QEMU's output.
        qemu_log = directory / "qemu.log";
        /// Returns the directory of the seed, which contains one file per credential.
        seed = directory / "seed";
        /// Returns the directory of keys and known hosts.
        ssh = directory / "ssh";
        /// Returns the path of an empty directory, for unused share devices.
        spare = directory / "spare";
        /// Returns the path of the socket at which the supervisor answers commands.
        control_socket = sockets / "control.sock";
        /// Returns the path of QEMU's monitor socket.
        qmp_socket = sockets / "qmp.sock";
        /// Returns the path of the serial console's socket.
        console_socket = sockets / "console.sock";
        /// Returns the path of the socket of the guest's event port.
        event_socket = sockets / "events.sock";
        /// Returns the path of the socket of the guest agent's port. Only the supervisor uses it.
        agent_port_socket = sockets / "agent-port.sock";
        /// Returns the path of the socket at which the supervisor forwards sessions to the guest agent.
        agent_socket = sockets / "agent.sock";
    }

    /// Returns the SSH endpoint for `user` of this sandbox.
    ///
    /// # Errors
    /// Fails if the sandbox's host key cannot be read.
    pub fn endpoint(
        &self,
        name: &SandboxName,
        ssh_port: u16,
        user: &str,
    ) -> Result<Endpoint, KeyError> {
        let keys = KeyFiles::in_directory(self.ssh());
        Ok(Endpoint {
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, ssh_port)),
            user: user.into(),
            identity: keys.identity(),
            host_key: keys.read_host_key()?,
            host_key_alias: name.to_string(),
            known_hosts: keys.known_hosts(),
        })
    }

    /// Asks the guest for its state, through the supervisor.
    ///
    /// # Errors
    /// Fails if the guest agent does not answer.
    pub async fn guest_status(&self) -> Result<sandbox_protocol::agent::message::Status, Error> {
        Ok(crate::agent::status(&self.agent_socket()).await?)
    }

    /// Returns the existing logs.
    pub(crate) fn logs(&self) -> Vec<PathBuf> {
        let mut logs = vec![
            self.console_log(),
            self.console_log_rotated(),
            self.supervisor_log(),
            self.qemu_log(),
        ];
        logs.retain(|log| log.exists());
        logs.extend(access_logs(&self.directory));
        logs
    }

    /// Returns the paths of all sockets.
    pub fn socket_paths(&self) -> [PathBuf; 6] {
        [
            self.control_socket(),
            self.qmp_socket(),
            self.console_socket(),
            self.event_socket(),
            self.agent_port_socket(),
            self.agent_socket(),
        ]
    }
}

/// Returns the existing access logs in a directory.
pub(crate) fn access_logs(directory: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    [access_log::FILE, access_log::EARLIER_FILE]
        .map(|name| directory.join(name))
        .into_iter()
        .filter(|log| log.exists())
}

/// Returns a directory name that is unique for a path: `sandbox-` and 16 hexadecimal digits of the
/// path's SHA-256.
fn short_name(directory: &Path) -> String {
    use std::os::unix::ffi::OsStrExt;
    let digits = Digest::of(directory.as_os_str().as_bytes()).hex();
    format!("sandbox-{}", &digits[..16])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(state: &str) -> StateLayout {
        let directories = Directories {
            state: state.into(),
            data: "/d".into(),
            config: "/c".into(),
            home: "/h".into(),
            runtime: "/run/user/1000".into(),
        };
        StateLayout::new(&directories, &"sandbox-box".parse().unwrap())
    }

    #[test]
    fn layout_puts_sockets_into_the_state_directory() {
        let layout = layout("/home/a/.cache/sandbox");
        assert_eq!(
            layout.console_socket(),
            Path::new("/home/a/.cache/sandbox/kvm-vms/sandbox-box/console.sock")
        );
        assert_eq!(layout.short_socket_directory(), None);
    }

    #[test]
    fn layout_with_long_home_moves_only_the_sockets() {
        let layout = layout(&format!("/home/{}", "x".repeat(90)));
        let sockets = layout.short_socket_directory().unwrap();
        assert!(sockets.starts_with("/run/user/1000"));
        for path in layout.socket_paths() {
            assert!(path.as_os_str().len() <= SOCKET_PATH_LIMIT);
        }
        assert!(layout.overlay().starts_with("/home"));
    }
}
