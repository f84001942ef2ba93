//! The state directory of one sandbox: where each file lies.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::ssh::keys::KeyFiles;
use crate::ssh::{Endpoint, KeyError};
use sandbox_gateway::access_log;
use sandbox_host::directories::Directories;
use sandbox_spec::{Digest, SandboxName};

/// The bytes that a Unix socket's address holds, less the final NUL (unix(7)).
const SOCKET_PATH_LIMIT: usize = 107;

/// Paths of one sandbox; a value, nothing is looked up.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateLayout {
    directory: PathBuf,
    /// Where sockets lie: the state directory, or a short one of its own if
    /// the state directory's path is too long for a socket's address.
    sockets: PathBuf,
}

macro_rules! paths {
    ($($(#[$documentation:meta])* $method:ident = $base:ident / $name:literal;)*) => {
        $($(#[$documentation])* pub fn $method(&self) -> PathBuf { self.$base.join($name) })*
    };
}

impl StateLayout {
    /// The layout of the sandbox `name`.
    pub fn new(directories: &Directories, name: &SandboxName) -> Self {
        Self::at(directories.sandboxes().join(name.as_str()), directories)
    }

    /// The layout of a guest whose files lie in `directory`.
    pub fn at(directory: PathBuf, directories: &Directories) -> Self {
        let longest = directory.join("agent-port.sock");
        let sockets = if longest.as_os_str().len() <= SOCKET_PATH_LIMIT {
            directory.clone()
        } else {
            directories.runtime.join(short_name(&directory))
        };
        Self { directory, sockets }
    }

    /// The state directory itself.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The directory of the sockets, where it is another than the state
    /// directory.
    pub fn short_socket_directory(&self) -> Option<&Path> {
        (self.sockets != self.directory).then_some(&*self.sockets)
    }

    paths! {
        /// Held by the supervisor as long as the sandbox exists.
        lock = directory / "lock";
        /// The machine-readable record, [`super::Record`].
        record = directory / "sandbox.json";
        /// The workspace's path, alone, for scripts.
        workspace_path = directory / "workspace.path";
        /// The forwarded SSH port, alone, for scripts.
        ssh_port = directory / "ssh.port";
        /// QEMU's pid, written by QEMU.
        qemu_pid = directory / "qemu.pid";
        /// The disk overlay.
        overlay = directory / "overlay.qcow2";
        /// The composed initial RAM disk.
        initrd = directory / "initrd";
        /// What the serial console printed.
        console_log = directory / "console.log";
        /// The earlier part of what the console printed, once that has grown.
        console_log_rotated = directory / "console.log.1";
        /// The supervisor's own messages.
        supervisor_log = directory / "supervisor.log";
        /// What QEMU itself printed.
        qemu_log = directory / "qemu.log";
        /// One file a credential.
        seed = directory / "seed";
        /// Keys and known hosts.
        ssh = directory / "ssh";
        /// An empty directory, for devices of shares that are not used.
        spare = directory / "spare";
        /// Where the supervisor answers commands.
        control_socket = sockets / "control.sock";
        /// QEMU's monitor.
        qmp_socket = sockets / "qmp.sock";
        /// The serial console.
        console_socket = sockets / "console.sock";
        /// The guest's events.
        event_socket = sockets / "events.sock";
        /// The guest agent's port, for the supervisor alone.
        agent_port_socket = sockets / "agent-port.sock";
        /// Where the supervisor passes sessions on to the guest agent.
        agent_socket = sockets / "agent.sock";
    }

    /// How `user` of this sandbox is reached by SSH.
    ///
    /// # Errors
    /// When the host key that was written at the start cannot be read.
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
    /// Where the guest agent does not answer.
    pub async fn guest_status(&self) -> Result<sandbox_protocol::agent::message::Status, Error> {
        Ok(crate::agent::status(&self.agent_socket()).await?)
    }

    /// Every log that exists.
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

    /// Every socket.
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

/// The access logs in a directory.
pub(crate) fn access_logs(directory: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    [access_log::FILE, access_log::EARLIER_FILE]
        .map(|name| directory.join(name))
        .into_iter()
        .filter(|log| log.exists())
}

/// A directory name that is unique for a path: 16 hexadecimal digits of its
/// SHA-256.
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
            config: "/c".into(),
            home: "/h".into(),
            runtime: "/run/user/1000".into(),
        };
        StateLayout::new(&directories, &"sandbox-box".parse().unwrap())
    }

    #[test]
    fn sockets_lie_beside_the_state() {
        let layout = layout("/home/a/.cache/sandbox");
        assert_eq!(
            layout.console_socket(),
            Path::new("/home/a/.cache/sandbox/kvm-vms/sandbox-box/console.sock")
        );
        assert_eq!(layout.short_socket_directory(), None);
    }

    #[test]
    fn a_long_home_directory_moves_the_sockets_and_nothing_else() {
        let layout = layout(&format!("/home/{}", "x".repeat(90)));
        let sockets = layout.short_socket_directory().unwrap();
        assert!(sockets.starts_with("/run/user/1000"));
        for path in layout.socket_paths() {
            assert!(path.as_os_str().len() <= SOCKET_PATH_LIMIT);
        }
        assert!(layout.overlay().starts_with("/home"));
    }
}
