//! Two connected networks. Sandboxes run in the host's network. In the outside network,
//! servers stand for the rest of the world, with documentation addresses as public
//! addresses.

use std::path::PathBuf;
use std::process::Command;

use sandbox_test_support::TestEnvironment;
use tempfile::TempDir;

use super::client;
use super::servers::Servers;
use crate::harness::{Host, Namespace, eventually};

/// The addresses of the outside. All have the same servers.
pub(super) const OUTSIDE: [&str; 13] = [
    RESOLVER,
    MIRROR,
    OTHER,
    GOOGLES_RESOLVER,
    PRIVATE,
    "192.168.77.1",
    "100.64.0.1",
    "169.254.7.7",
    "169.254.169.254",
    "2001:db8::1",
    MIRROR_V6,
    "fd99::1",
    "fd00:ec2::254",
];

/// The resolver of the sandboxes.
pub(super) const RESOLVER: &str = "203.0.113.1";
/// The address of `mirror.test` and of some other names.
pub(super) const MIRROR: &str = "198.51.100.7";
pub(super) const MIRROR_V6: &str = "2001:db8:1::7";
/// The address of `other.test`.
pub(super) const OTHER: &str = "198.51.100.8";
pub(super) const PRIVATE: &str = "10.99.0.1";
pub(super) const GOOGLES_RESOLVER: &str = "8.8.8.8";
/// The host's own addresses, without its loopback.
pub(super) const HOSTS: &str = "203.0.113.2";
pub(super) const HOSTS_PRIVATE: &str = "10.99.0.2";
pub(super) const HOSTS_V6: &str = "2001:db8::2";

/// The host's network and the outside.
pub(crate) struct World {
    pub(super) host: Namespace,
    pub(super) outside: Namespace,
    pub(super) servers: Servers,
    directory: TempDir,
}

impl World {
    /// Creates a world. Returns `None` if this user may not create networks. In that case,
    /// another process has already run the calling test in a user namespace.
    #[track_caller]
    pub(crate) fn new() -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            run_test_in_user_namespace();
            return None;
        }
        let outside = Namespace::new();
        let host = Namespace::new();
        join(&host, &outside);
        let servers = Servers::start(&host, &outside);
        let directory = tempfile::tempdir().unwrap();
        let world = Self {
            host,
            outside,
            servers,
            directory,
        };
        std::fs::write(world.authority(), world.servers.authority()).unwrap();
        Some(world)
    }

    /// Returns the file with the certificate of the servers' authority.
    pub(super) fn authority(&self) -> PathBuf {
        self.directory.path().join("authority.pem")
    }

    /// Creates a host in this world.
    pub(super) fn host(&self) -> Host {
        self.host_with(|environment| environment)
    }

    /// Creates a host in this world with more environment variables.
    pub(super) fn host_with(&self, adapt: impl FnOnce(TestEnvironment) -> TestEnvironment) -> Host {
        let host = Host::in_network(self.host.clone(), adapt);
        std::fs::copy(client::program(), host.project().join(client::NAME)).unwrap();
        std::fs::copy(self.authority(), host.project().join("authority.pem")).unwrap();
        host
    }

    /// Starts a sandbox that resolves names by this world's DNS server, and waits for the
    /// guest's addresses.
    #[track_caller]
    pub(super) fn start(host: &Host, flags: &[&str]) {
        host.start(&[&["--dns", RESOLVER], flags].concat());
        // Without this, the guest's kernel refuses pings of the client.
        host.guest("echo 0 2147483647 | sudo tee /proc/sys/net/ipv4/ping_group_range");
        eventually("the guest's addresses", || {
            let v4 = host.guest("cat /proc/net/route").contains("0202000A");
            let v6 = host.guest("cat /proc/net/if_inet6");
            // The flag 0x40 in the fifth column marks a tentative address.
            let ready = |line: &str| {
                line.starts_with("fd005a4db0c50002")
                    && line
                        .split_whitespace()
                        .nth(4)
                        .is_some_and(|flags| u8::from_str_radix(flags, 16).unwrap() & 0x40 == 0)
            };
            (v4 && v6.lines().any(ready)).then_some(())
        });
    }
}

/// Runs the calling test in a user namespace, in which it may create networks. Panics if
/// the test fails there.
#[track_caller]
fn run_test_in_user_namespace() {
    let thread = std::thread::current();
    let test = thread
        .name()
        .expect("the thread of a test has the name of the test");
    let status = Command::new("unshare")
        .args(["--user", "--map-root-user", "--"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", test])
        .status()
        .expect("could not run `unshare`");
    assert!(
        status.success(),
        "`{test}` failed in a user namespace, which this host must allow: {status}"
    );
}

fn join(host: &Namespace, outside: &Namespace) {
    host.ip(&format!(
        "link add host0 type veth peer name outside0 netns {}\n\
         addr add {HOSTS}/24 dev host0\n\
         addr add {HOSTS_PRIVATE}/24 dev host0\n\
         addr add {HOSTS_V6}/64 dev host0 nodad\n\
         link set host0 up",
        outside.path().display()
    ));
    let addresses: Vec<String> = OUTSIDE
        .iter()
        .map(|address| match address.contains(':') {
            true => format!("addr add {address}/64 dev outside0 nodad"),
            false => format!("addr add {address}/24 dev outside0"),
        })
        .collect();
    outside.ip(&format!("{}\nlink set outside0 up", addresses.join("\n")));
    host.ip(&format!(
        "route add default via {RESOLVER}\nroute add default via 2001:db8::1"
    ));
    // The groups that may ping. By default none may. A user namespace may have no group
    // but root's.
    host.set("ipv4/ping_group_range", "0 0");
}
