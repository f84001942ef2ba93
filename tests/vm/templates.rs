//! Warm starts: sandboxes that are restored from a template, and the templates.

use std::fs;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::failures::CRASHES_ONCE;
use crate::harness::{Host, Running, Terminal, eventually};

/// The maximum difference between the clocks of guest and host, in seconds.
const CLOCK_TOLERANCE: f64 = 0.05;

/// A directory with its sandbox.
struct Machine<'a> {
    host: &'a Host,
    directory: std::path::PathBuf,
}

impl<'a> Machine<'a> {
    fn start(host: &'a Host, name: &str) -> Self {
        let directory = host.root().join(name);
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("whose"), name).unwrap();
        let machine = Self { host, directory };
        machine.run(&["--kvm"]);
        machine
    }

    #[track_caller]
    fn run(&self, arguments: &[&str]) -> String {
        let mut command = self.host.command(arguments);
        let output = Running::start(command.current_dir(&self.directory)).finish();
        output.success().stdout.trim_end_matches('\n').to_owned()
    }

    #[track_caller]
    fn guest(&self, script: &str) -> String {
        self.run(&["exec", "--", "sh", "-euc", script])
    }

    fn info(&self) -> Value {
        serde_json::from_str(&self.run(&["info", "--json"])).unwrap()
    }
}

fn seconds_since_1970() -> f64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs_f64()
}

#[test]
fn sandboxes_from_one_template_share_no_identity() {
    let host = Host::with_machines(2);
    let begin = seconds_since_1970();
    let machines = ["one", "two"].map(|name| Machine::start(&host, name));
    let [one, two] = &machines;
    let templates = machines
        .each_ref()
        .map(|machine| machine.info()["template"].clone());
    assert!(templates[0].is_string(), "{templates:?}");
    assert_eq!(templates[0], templates[1]);

    for (what, script) in [
        ("host name", "hostname"),
        ("host name for programs", "uname -n"),
        ("name of its address", "getent hosts 127.0.1.1"),
        ("machine-id", "cat /etc/machine-id"),
        ("boot id", "cat /proc/sys/kernel/random/boot_id"),
        ("SSH host key", "sudo cat /etc/ssh/ssh_host_ed25519_key"),
        ("authorized keys", "cat ~/.ssh/authorized_keys"),
        ("random bytes", "head -c 32 /dev/urandom | od -An -tx1"),
        (
            "random bytes of OpenSSL",
            "openssl rand -hex 32 2>/dev/null || python3 -c 'import secrets; print(secrets.token_hex())'",
        ),
        ("random UUID", "cat /proc/sys/kernel/random/uuid"),
        ("name in sessions", "echo $SANDBOX_CONTAINER"),
        ("workspace", "cat whose; ls"),
    ] {
        assert_ne!(one.guest(script), two.guest(script), "equal {what}");
    }
    for (machine, name) in machines.iter().zip(["one", "two"]) {
        assert_independent(machine, name, begin);
    }
    host.run(["stop", "--all"]).success();
    host.assert_nothing_left();
}

fn assert_independent(machine: &Machine<'_>, name: &str, begin: f64) {
    assert_eq!(machine.guest("hostname"), format!("sandbox-{name}"));
    assert_eq!(machine.guest("cat whose"), name);
    machine.guest("echo from the guest > written");
    assert!(machine.directory.join("written").exists());

    let before = seconds_since_1970();
    let guest: f64 = machine.guest("date +%s.%N").parse().unwrap();
    let after = seconds_since_1970();
    assert!(
        before - CLOCK_TOLERANCE < guest && guest < after + CLOCK_TOLERANCE,
        "{before} {guest} {after}"
    );

    // ssh verifies the pinned host key.
    assert_eq!(
        machine.run(&["ssh", "--", "hostname"]),
        format!("sandbox-{name}")
    );

    // The uptime includes the boot of the template, but not the time that the template lay
    // in the store.
    let uptime: f64 = machine.guest("cut -d' ' -f1 /proc/uptime").parse().unwrap();
    let key = machine.info()["template"].as_str().unwrap().to_owned();
    let template: Value =
        serde_json::from_str(&machine.run(&["template", "inspect", &key, "--json"])).unwrap();
    let built_in = template["build_seconds"].as_f64().unwrap();
    assert!(
        uptime < seconds_since_1970() - begin + built_in,
        "{uptime} s, built in {built_in} s"
    );

    settle(machine);
    assert_eq!(machine.guest("systemctl --failed --no-legend --plain"), "");
    assert_eq!(
        machine.guest("systemctl is-active systemd-logind systemd-udevd systemd-journald dbus"),
        "active\nactive\nactive\nactive"
    );
    // Only the agent can use its port: users are denied, and root finds it busy.
    let port = "/dev/virtio-ports/org.sandbox.agent.0";
    let opened = machine.guest(&format!(
        "LC_ALL=C; export LC_ALL; head -c1 {port} 2>&1 || true; sudo head -c1 {port} 2>&1 || true"
    ));
    assert!(opened.contains("Permission denied"), "{opened}");
    assert!(opened.contains("busy"), "{opened}");

    // The journal has one boot, and no entry from before this start.
    let first: f64 = machine
        .guest("sudo journalctl -o json --output-fields=MESSAGE -n +1 | grep -o '\"__REALTIME_TIMESTAMP\":\"[0-9]*' | grep -o '[0-9]*$'")
        .parse()
        .unwrap();
    assert!(first / 1e6 > begin - 1.0, "{first} {begin}");
    assert_eq!(
        machine.guest("sudo journalctl --list-boots -o json | grep -o boot_id | wc -l"),
        "1"
    );
    let boots = machine.guest("sudo journalctl -F _BOOT_ID");
    let boot_id = machine.guest("tr -d - < /proc/sys/kernel/random/boot_id");
    assert_eq!(boots, boot_id);
    // The exceptions exist in any Debian: private directories of services, and the empty
    // directories of tmpfiles.d's x11.conf.
    assert_eq!(
        machine.guest("find /tmp /var/tmp -mindepth 1 -maxdepth 1 ! -name 'systemd-private-*' ! -name '.*-unix' || true"),
        ""
    );
    assert_eq!(
        machine.guest("find /tmp/.*-unix -mindepth 1 2>/dev/null || true"),
        ""
    );
    assert_eq!(
        machine.guest("systemctl show-environment | grep SANDBOX_CONTAINER"),
        format!("SANDBOX_CONTAINER=sandbox-{name}")
    );
    assert_eq!(
        machine.guest("systemctl --user show-environment | grep SANDBOX_CONTAINER"),
        format!("SANDBOX_CONTAINER=sandbox-{name}")
    );
    assert_eq!(
        machine.guest("(hostname; env; cat /proc/cmdline; sudo strings -a /sys/firmware/dmi/tables/DMI 2>/dev/null; sudo ls /run/credentials/@system /run/sandbox; sudo journalctl --no-pager; systemctl list-units --all --no-pager --no-legend) | grep -i 'sandbox[-.]template' || true"),
        ""
    );
}

/// Waits until the guest's agent has finished its work after readiness.
fn settle(machine: &Machine<'_>) {
    eventually("the console's login", || {
        let active = machine.guest("systemctl is-active serial-getty@ttyS0 || true");
        (active == "active").then_some(())
    });
    assert_eq!(machine.guest("systemctl is-system-running"), "running");
}

#[test]
fn warm_start_at_terminal_opens_login_shell() {
    let host = Host::with_project("it's_warm");
    let mut shell = Terminal::open(&host.command(["--kvm"]));
    shell.expect("dev@sandbox-it_s_warm:~/workspace$ ");
    shell.send("loginctl --no-pager show-session $XDG_SESSION_ID --property=Name; echo seen\r");
    shell.expect("Name=dev");
    shell.send("exit 3\r");
    assert_eq!(shell.finish(), 3);
    assert!(host.info()["template"].is_string());
    // `stop` presses the power button.
    host.stop();
}

#[test]
fn warm_start_with_larger_disk_and_shares_uses_template() {
    let host = Host::new();
    let data = host.root().join("data");
    fs::create_dir(&data).unwrap();
    fs::write(data.join("file"), "shared\n").unwrap();
    let share = format!("{}:/srv/data:ro", data.display());
    host.start(&["--disk", "30G", "--share", &share]);
    assert!(host.info()["template"].is_string());
    assert_eq!(host.guest("cat /srv/data/file"), "shared");
    let size: u64 = host
        .guest("df --output=size --block-size=1G / | tail -1 | tr -d ' '")
        .parse()
        .unwrap();
    assert!((28..=30).contains(&size), "{size} GiB");
    host.stop();

    // No template has this memory size.
    host.start(&["--memory", "1G"]);
    assert!(host.info()["template"].is_null());
    host.stop();
    host.start(&["--cold"]);
    assert!(host.info()["template"].is_null());
    host.stop();
}

#[test]
fn memory_freed_by_restored_guest_returns_to_host_and_stays_in_template() {
    let host = Host::with_machines(2);
    let one = Machine::start(&host, "one");
    let resident = || -> u64 {
        let pid = one.info()["qemu"]["pid"].as_i64().unwrap();
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status
            .lines()
            .find(|line| line.starts_with("RssAnon:"))
            .unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    settle(&one);
    let idle = resident();
    one.guest("head -c 400M /dev/zero | tr '\\0' x > /dev/shm/large; sync");
    let full = resident();
    assert!(full > idle + (350 << 10), "{idle} {full}");
    one.guest("rm /dev/shm/large");
    eventually("the memory to return to the host", || {
        (resident() < idle + (150 << 10)).then_some(())
    });
    // The template is intact: another machine starts from it.
    let two = Machine::start(&host, "two");
    assert!(two.info()["template"].is_string());
    two.guest("sudo sh -c 'cat /usr/bin/* /usr/lib/x86_64-linux-gnu/*.so* > /dev/null'");
    host.run(["stop", "--all"]).success();
    host.assert_nothing_left();
}

/// Returns the directory of the template that a start would use.
fn template_of(host: &Host) -> std::path::PathBuf {
    let plan = host.run(["--kvm", "--dry-run"]).success();
    let line = plan
        .stdout
        .lines()
        .find_map(|line| line.strip_prefix("template "));
    let key = line.expect("the plan has no template").trim().to_owned();
    let templates = fs::read_dir(host.images().join("templates")).unwrap();
    let mut paths = templates.flatten().map(|entry| entry.path());
    paths
        .find(|path| {
            path.file_name()
                .unwrap()
                .to_str()
                .unwrap()
                .starts_with(&key)
        })
        .unwrap()
}

/// Starts a sandbox whose template cannot be restored. The start must boot, log that, and
/// discard the template.
#[track_caller]
fn assert_start_discards_template(host: &Host, failure: &str) {
    host.start(&[]);
    assert!(host.info()["template"].is_null(), "{failure}");
    host.guest("cat /etc/machine-id");
    let log = fs::read_to_string(host.state_of_project().join("supervisor.log")).unwrap();
    assert!(
        log.contains("discarding it and booting"),
        "{failure}: {log}"
    );
    host.stop();
    let list = host.run(["template", "ls", "--json"]).success();
    assert_eq!(list.stdout.trim(), "[]", "{failure}: not discarded");
}

#[test]
fn start_with_unrestorable_template_discards_it_and_boots_cold() {
    // A QEMU that fails to restore once the file `fail` exists.
    let host = Host::with_own_templates(1, |environment| {
        environment
            .qemu_after("case \"$*\" in *-incoming*) [ ! -e \"$root/fail\" ] || exit 1;; esac")
    });
    let warm = |host: &Host| {
        host.run(["template", "build"]).success();
        host.start(&[]);
        assert!(host.info()["template"].is_string());
        host.stop();
    };
    warm(&host);
    fs::write(host.root().join("fail"), "").unwrap();
    assert_start_discards_template(&host, "QEMU ends while restoring");
    fs::remove_file(host.root().join("fail")).unwrap();

    warm(&host);
    overwrite_memory(&template_of(&host).join("ram"));
    assert_start_discards_template(&host, "the restored guest is dead");
}

#[test]
fn template_build_with_qemu_crash_is_retried() {
    let host = Host::with_own_templates(1, |environment| environment.qemu_after(CRASHES_ONCE));
    let built = host.run(["template", "build"]).success();
    assert!(built.stderr.contains("QEMU crashed"), "{built}");
    host.start(&[]);
    assert!(host.info()["template"].is_string());
    host.stop();
    host.assert_nothing_left();
}

/// Overwrites the guest's memory in the file with zeros.
fn overwrite_memory(ram: &Path) {
    use std::os::unix::fs::FileExt;
    let file = fs::File::options().write(true).open(ram).unwrap();
    let length = file.metadata().unwrap().len();
    let start = sandbox_qemu::argv::MEMORY_OFFSET;
    let zeros = vec![0; 1 << 20];
    for offset in (start..length).step_by(zeros.len()) {
        file.write_all_at(&zeros, offset).unwrap();
    }
}

#[test]
fn template_with_incomplete_files_is_ignored() {
    let host = Host::with_own_templates(1, |environment| environment);
    for (name, length) in [("state", 1000), ("ram", 1 << 20), ("disk.qcow2", 10)] {
        host.copy_templates();
        let file = template_of(&host).join(name);
        fs::File::options()
            .write(true)
            .open(&file)
            .unwrap()
            .set_len(length)
            .unwrap();
        let plan = host.run(["--kvm", "--dry-run"]).success();
        assert!(
            !plan.stdout.contains("-incoming"),
            "{name} is truncated: {plan}"
        );
    }
    host.copy_templates();
    fs::remove_file(template_of(&host).join("disk.qcow2")).unwrap();
    let plan = host.run(["--kvm", "--dry-run"]).success();
    assert!(!plan.stdout.contains("-incoming"), "{plan}");
}

#[test]
fn removed_template_still_serves_running_sandbox() {
    let host = Host::with_own_templates(1, |environment| environment);
    host.copy_templates();
    host.start(&[]);
    assert!(host.info()["template"].is_string());
    host.run(["template", "rm", "--all"]).success();
    host.guest("cat /usr/bin/* > /dev/null; sudo apt-get check -qq");
    host.stop();
}

#[test]
fn first_cold_start_builds_template_in_background() {
    // The build runs with the lowest priority: beside another busy machine, it starves.
    let host = Host::with_own_templates(2, |environment| {
        environment.variable("SANDBOX_TEMPLATES", "auto")
    });
    let flags = ["--memory", "1G", "--cpus", "1"];
    host.start(&flags);
    assert!(host.info()["template"].is_null());
    let building = eventually("the build in the background", || {
        let list = host.run(["template", "ls"]).success().stdout;
        list.contains("building").then_some(list)
    });
    assert!(building.contains("1G"), "{building}");
    // A second build of the same template is refused.
    let again = host.run(["template", "build", "--memory", "1G", "--cpus", "1"]);
    assert_eq!(again.status, 1, "{again}");
    assert!(
        again.stderr.contains("already building this template"),
        "{again}"
    );
    eventually("the template", || {
        let list = host.run(["template", "ls"]).success().stdout;
        list.contains("ready").then_some(())
    });
    host.stop();
    host.start(&flags);
    assert!(host.info()["template"].is_string());
    assert_eq!(host.guest("nproc"), "1");
    host.stop();
}

#[test]
fn killed_template_build_leaves_nothing_and_next_build_succeeds() {
    use nix::sys::signal::Signal;
    let host = Host::with_own_templates(1, |environment| environment);
    for (signal, status) in [(Signal::SIGINT, 130), (Signal::SIGKILL, 137)] {
        let build = host.spawn(["template", "build"]);
        build.expect_stderr("booting the guest to save");
        eventually("the QEMU of the build", || {
            (host.processes().len() > 1).then_some(())
        });
        build.signal(signal);
        assert_eq!(build.finish().status, status);
        host.wait_for_end();
    }
    let list = host.run(["template", "ls", "--json"]).success();
    assert_eq!(list.stdout.trim(), "[]");
    let built = host.run(["template", "build"]).success();
    assert!(built.stderr.contains("built template"), "{built}");
    let left: Vec<_> = fs::read_dir(host.state().join("building"))
        .into_iter()
        .flatten()
        .flatten()
        .collect();
    assert!(left.is_empty(), "{left:?}");
}
