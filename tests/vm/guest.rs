//! The guest is a complete Debian of the requested size, and other users of the host
//! cannot read its state.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::harness::{Check, Host, Terminal, eventually_or_report, run_checks};

const CHECKS: &[Check] = &[
    ("every service of Debian starts", everything_starts),
    ("the guest's event port has its name", port_link),
    ("an interactive login is a session of logind", login_session),
    ("the clock is correct", clock),
    ("processors, memory and disk are as requested", size),
    ("the disk returns freed space to the host", discard),
    ("apt and dpkg report no problem", packages),
    (
        "the guest has its own machine-id and SSH host key",
        identity,
    ),
    ("without proxy mode, no proxy is configured", no_proxy),
    ("no secret is on a command line", command_lines),
    ("only the user can read the state", modes),
    ("the SSH port listens on loopback only", loopback_only),
    ("QEMU has a separate network namespace", qemu_namespace),
];

#[test]
fn cold_guest_is_complete_debian_of_requested_size() {
    let host = Host::cold();
    host.start(&["--disk", "8G", "--memory", "1536M", "--cpus", "1"]);
    run_checks(&host, CHECKS);
    host.stop();
}

fn everything_starts(host: &Host) {
    let state = host.settle();
    let failed = host.guest("systemctl --failed --no-legend --plain");
    assert_eq!((state.as_str(), failed.as_str()), ("running", ""));
    assert_eq!(
        host.guest("systemctl is-active multi-user.target"),
        "active"
    );
    assert_eq!(
        host.guest("systemctl is-active systemd-logind systemd-udevd systemd-journald dbus"),
        "active\nactive\nactive\nactive"
    );
    // The login on the console starts the user's manager asynchronously.
    eventually_or_report("the end of systemd's last job", || {
        let jobs = host.guest("systemctl list-jobs --no-legend");
        if jobs.is_empty() { Ok(()) } else { Err(jobs) }
    });
}

fn port_link(host: &Host) {
    host.settle();
    assert_eq!(
        host.guest("readlink -f /dev/virtio-ports/org.sandbox.guest.0"),
        host.guest("ls -d /dev/vport*p1")
    );
}

fn login_session(host: &Host) {
    host.settle();
    let mut shell = Terminal::open(&host.command(["--kvm"]));
    shell.expect("$ ");
    // A pager would read the keys that follow.
    shell.send(
        "loginctl --no-pager show-session $XDG_SESSION_ID --property=Name --property=Active\r",
    );
    shell.expect("Name=dev");
    shell.expect("Active=yes");
    // The user's manager is ready once its basic.target is, which may be before the end of
    // its last job.
    shell.send("systemctl --user is-system-running --wait; echo user manager: $?\r");
    shell.expect("user manager: 0");
    shell.send("exit\r");
    assert_eq!(shell.finish(), 0);
}

fn clock(host: &Host) {
    // The command takes time, so the answer lies between the two readings.
    let now = || {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_secs_f64()
    };
    let before = now();
    let guest: f64 = host.guest("date +%s.%N").parse().unwrap();
    let after = now();
    assert!(
        before - 2.0 < guest && guest < after + 2.0,
        "{before} {guest} {after}"
    );
}

fn size(host: &Host) {
    assert_eq!(host.guest("nproc"), "1");
    let memory_kib: u64 = host
        .guest("awk '/MemTotal/ { print $2 }' /proc/meminfo")
        .parse()
        .unwrap();
    assert!(
        (1300 << 10..=1536 << 10).contains(&memory_kib),
        "{memory_kib}"
    );
    assert_eq!(
        host.guest("cat /sys/class/block/vda/size"),
        (8u64 << 30 >> 9).to_string()
    );
    // The file system fills the disk, without its tables.
    let available: u64 = host
        .guest("df --output=size --block-size=1M / | tail -1 | tr -d ' '")
        .parse()
        .unwrap();
    assert!((7300..=8192).contains(&available), "{available} MiB");
    assert_eq!(
        host.guest("findmnt -no FSTYPE,OPTIONS / | grep -c '^ext4 .*rw'"),
        "1"
    );
}

fn discard(host: &Host) {
    use std::os::unix::fs::MetadataExt;
    let overlay = host.state_of_project().join("overlay.qcow2");
    let used = || fs::metadata(&overlay).unwrap().blocks() * 512;
    host.guest("head -c 200M /dev/urandom > ~/large; sync");
    let full = used();
    host.guest("rm ~/large; sync; sudo fstrim /");
    assert!(used() + (150 << 20) < full, "{} of {full} bytes", used());
}

fn packages(host: &Host) {
    assert_eq!(host.guest("dpkg --audit"), "");
    host.guest("sudo apt-get check -qq; apt-cache policy systemd | grep -q Installed");
}

fn identity(host: &Host) {
    let machine_id = host.guest("cat /etc/machine-id");
    assert_eq!(machine_id.len(), 32, "{machine_id}");
    // The only host key is the one that the host generated.
    assert_eq!(
        host.guest("ls /etc/ssh/ssh_host_*_key"),
        "/etc/ssh/ssh_host_ed25519_key"
    );
    let guest_key = host.guest("ssh-keygen -y -f /etc/ssh/ssh_host_ed25519_key 2>&1 || sudo ssh-keygen -y -f /etc/ssh/ssh_host_ed25519_key");
    let known = fs::read_to_string(host.state_of_project().join("ssh/known_hosts")).unwrap();
    let key = guest_key.lines().last().unwrap().split(' ').nth(1).unwrap();
    assert!(known.contains(key), "{known}{guest_key}");
}

fn no_proxy(host: &Host) {
    assert_eq!(
        host.guest("env | grep -iE '_proxy=|_CERT|_CA_' || true"),
        ""
    );
    assert_eq!(host.guest("apt-config dump | grep ::Proxy || true"), "");
    assert_eq!(
        host.guest("find /etc/motd.d /usr/local/share/ca-certificates -type f 2>/dev/null || true"),
        ""
    );
}

fn command_lines(host: &Host) {
    let arguments = fs::read(format!("/proc/{}/cmdline", host.qemu())).unwrap();
    let text = String::from_utf8_lossy(&arguments);
    let seed = host.state_of_project().join("seed");
    let mut files = 0;
    for entry in fs::read_dir(&seed).unwrap().flatten() {
        files += 1;
        let content = fs::read_to_string(entry.path()).unwrap();
        let value = content
            .split_once('=')
            .map_or(content.as_str(), |(_, value)| value);
        assert!(!value.trim().is_empty(), "{:?} is empty", entry.path());
        // Short values are not secret: the name of the sandbox, and `run`.
        if value.trim().len() > 20 {
            assert!(!text.contains(value.trim()), "{:?}", entry.path());
        }
        assert!(
            text.contains(entry.path().to_str().unwrap()),
            "{:?} is unused",
            entry.path()
        );
    }
    assert!(files > 3, "{files}");
    for word in ["PRIVATE KEY", "ssh-ed25519", "io.systemd.credential"] {
        assert!(!text.contains(word), "{word}");
    }
    let supervisor = fs::read(format!("/proc/{}/cmdline", host.supervisor())).unwrap();
    assert_eq!(
        String::from_utf8_lossy(&supervisor),
        "sandbox\0supervise\0sandbox-project\0"
    );
}

fn modes(host: &Host) {
    let mut directories = vec![host.state_of_project()];
    assert_eq!(mode(&host.state().join("kvm-vms")), 0o700);
    let mut files = 0;
    while let Some(directory) = directories.pop() {
        assert_eq!(mode(&directory), 0o700, "{}", directory.display());
        for entry in fs::read_dir(&directory).unwrap().flatten() {
            let kind = entry.file_type().unwrap();
            if kind.is_dir() {
                directories.push(entry.path());
            } else if kind.is_file() {
                files += 1;
                assert_eq!(mode(&entry.path()), 0o600, "{}", entry.path().display());
            }
        }
    }
    assert!(files > 10, "{files}");
}

fn mode(path: &std::path::Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

fn loopback_only(host: &Host) {
    let port = host.info()["ssh_port"].as_u64().unwrap();
    // The local address is the second column, in hexadecimal; `0A` is LISTEN
    // (proc_pid_net(5)).
    let listening = |table: &str| -> Vec<String> {
        let suffix = format!(":{port:04X}");
        fs::read_to_string(table)
            .unwrap_or_default()
            .lines()
            .filter_map(|line| {
                let columns: Vec<&str> = line.split_whitespace().collect();
                (columns.get(3) == Some(&"0A") && columns[1].ends_with(&suffix))
                    .then(|| columns[1].to_owned())
            })
            .collect()
    };
    assert_eq!(listening("/proc/net/tcp"), [format!("0100007F:{port:04X}")]);
    assert!(listening("/proc/net/tcp6").is_empty());
}

fn qemu_namespace(host: &Host) {
    let qemu = host.info()["qemu"]["pid"].as_u64().unwrap();
    let namespace = |process: &str| fs::read_link(format!("/proc/{process}/ns/net")).unwrap();
    assert_ne!(namespace(&qemu.to_string()), namespace("self"));
}
