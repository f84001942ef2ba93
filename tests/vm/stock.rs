//! A settled sandbox equals the Debian that another tool boots from the same image.
//! Everything that a sandbox starts late, or skips before readiness, runs in the end.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use crate::harness::{Check, Host, Stock, Terminal, eventually, run_checks};

/// The script that examines both machines. It documents the sections of its report.
const PROBE: &str = include_str!("stock/probe.sh");

/// Lines, with their section, that only a sandbox may have.
const ADDED: [(&str, &str); 6] = [
    // The target before the default target, and the agent.
    ("units", "sandbox.target active"),
    ("units", "sandbox-agent.service running"),
    // The share, whose mount unit comes with the seed.
    ("units", "home-dev-workspace.mount mounted"),
    ("unit-files", "home-dev-workspace.mount generated"),
    ("generated", "./generator.early/home-dev-workspace.mount"),
    (
        "generated",
        "./generator.early/sandbox.target.d/50-credential.conf",
    ),
];

/// Lines that only a stock boot may have: the directory that it shares with the test.
const MISSING: [(&str, &str); 1] = [("units", "mnt.mount mounted")];

/// Sections with the exact lines that both machines must have.
const EXPECTED: [(&str, &[&str]); 9] = [
    ("state", &["running"]),
    ("failed", &[]),
    ("user-state", &["running"]),
    ("complaints", &[]),
    (
        "timers",
        &["systemd-tmpfiles-clean.timer systemd-tmpfiles-clean.service"],
    ),
    ("ports", &["org.sandbox.agent.0", "org.sandbox.guest.0"]),
    (
        "session",
        &[
            "Active=yes",
            "Class=user",
            "Name=dev",
            "Remote=no",
            "State=active",
            "Type=tty",
        ],
    ),
    ("user", &["Linger=yes", "Name=dev", "State=active"]),
    (
        "package",
        &[
            "active",
            "probe 1 install ok installed",
            "running",
            "status 0",
        ],
    ),
];

const CHECKS: &[Check] = &[
    ("timers run", timers),
    ("the journal is in memory by default", journal_in_memory),
    (
        "the journal is on disk once its directory exists",
        journal_on_disk,
    ),
    ("apt installs a package from the mirror", packages),
];

#[test]
fn settled_sandbox_matches_stock_boot_of_its_image() {
    let host = Host::with_machines(2);
    let mut machine = Stock::start(&host);
    host.start(&["--cold"]);
    host.settle();
    let cold = probe_sandbox(&host);
    machine.log_in();
    let stock = probe_stock(&mut machine);
    drop(machine);
    stock.assert_expected();
    cold.assert_matches(&stock);
    run_checks(&host, CHECKS);
    host.stop();

    host.start(&[]);
    assert!(!host.info()["template"].is_null());
    host.settle();
    probe_sandbox(&host).assert_matches(&stock);
    run_checks(&host, &CHECKS[..3]);
    host.stop();
}

/// Runs the probe in a login shell of the sandbox.
fn probe_sandbox(host: &Host) -> Report {
    fs::write(host.project().join("probe.sh"), PROBE).unwrap();
    let mut shell = Terminal::open(&host.command(["--kvm"]));
    shell.expect("$ ");
    shell.send("sudo sh probe.sh $XDG_SESSION_ID > report; echo status: $?\r");
    shell.expect("status: 0");
    shell.send("exit\r");
    assert_eq!(shell.finish(), 0);
    Report::parse(&fs::read_to_string(host.project().join("report")).unwrap())
}

/// Runs the probe in the login on the stock machine's console.
fn probe_stock(stock: &mut Stock) -> Report {
    fs::write(stock.directory().join("probe.sh"), PROBE).unwrap();
    stock.run("sudo sh -c 'sh /mnt/probe.sh $0 > /mnt/report' $XDG_SESSION_ID");
    Report::parse(&fs::read_to_string(stock.directory().join("report")).unwrap())
}

/// The lines of each section of a probe.
struct Report(BTreeMap<String, BTreeSet<String>>);

impl Report {
    fn parse(text: &str) -> Self {
        let mut sections = BTreeMap::new();
        let mut current = &mut BTreeSet::new();
        for line in text.lines().filter(|line| !line.is_empty()) {
            match line.strip_prefix("=== ") {
                Some(name) => current = sections.entry(name.to_owned()).or_default(),
                None => {
                    current.insert(line.trim_end().to_owned());
                }
            }
        }
        assert!(
            sections.contains_key("end"),
            "the probe did not finish: {text}"
        );
        Self(sections)
    }

    /// Asserts the expected lines, and that the other sections are not empty.
    #[track_caller]
    fn assert_expected(&self) {
        for (section, lines) in EXPECTED {
            let expected = lines.iter().map(|line| line.to_string()).collect();
            assert_eq!(self.0[section], expected, "{section}");
        }
        for section in ["units", "unit-files", "user-units", "generated"] {
            assert!(!self.0[section].is_empty(), "{section} is empty");
        }
    }

    /// Asserts that this sandbox differs from a stock boot only in the known lines.
    #[track_caller]
    fn assert_matches(&self, stock: &Self) {
        let added = self.beyond(stock, &ADDED);
        let missing = stock.beyond(self, &MISSING);
        assert!(
            added.is_empty() && missing.is_empty(),
            "only the sandbox has {added:#?}, only the stock boot has {missing:#?}"
        );
    }

    /// Returns the lines that only this report has, without the `known` ones.
    fn beyond(&self, other: &Self, known: &[(&str, &str)]) -> Vec<String> {
        let mut beyond = Vec::new();
        for (section, lines) in &self.0 {
            for line in lines.difference(&other.0[section]) {
                if !known.contains(&(section, line)) {
                    beyond.push(format!("{section}: {line}"));
                }
            }
        }
        beyond
    }
}

fn timers(host: &Host) {
    host.guest(
        "soon='--quiet --on-active=1 --timer-property=AccuracySec=1ms'
         sudo systemd-run $soon touch /run/timer-of-system
         systemd-run --user $soon touch $XDG_RUNTIME_DIR/timer-of-user",
    );
    eventually("the files of two timers", || {
        let files = "test -e /run/timer-of-system && test -e $XDG_RUNTIME_DIR/timer-of-user";
        (host.exec(&["sh", "-c", files]).status == 0).then_some(())
    });
}

/// A command that prints the file of the journal.
const JOURNAL: &str = "sudo journalctl --header | sed -n 's/^File path: //p' | grep system.journal";

fn journal_in_memory(host: &Host) {
    let file = host.guest(JOURNAL);
    assert!(file.starts_with("/run/log/journal/"), "{file}");
}

fn journal_on_disk(host: &Host) {
    host.guest("sudo mkdir /var/log/journal; sudo journalctl --flush");
    host.guest("logger --journald <<END\nMESSAGE=kept\nEND");
    let file = host.guest(JOURNAL);
    assert!(file.starts_with("/var/log/journal/"), "{file}");
    assert_eq!(
        host.guest("sudo journalctl --sync; sudo journalctl --output=cat MESSAGE=kept"),
        "kept"
    );
}

fn packages(host: &Host) {
    // Without the error mode, apt-get succeeds although it reached no mirror.
    let update = host.exec(&[
        "sudo",
        "apt-get",
        "update",
        "-qq",
        "-o",
        "APT::Update::Error-Mode=any",
    ]);
    assert_eq!(
        update.status, 0,
        "this check needs a package mirror that the guest can reach: {update}"
    );
    host.guest("sudo DEBIAN_FRONTEND=noninteractive apt-get install -qqy hello");
    assert_eq!(host.guest("hello"), "Hello, world!");
}
