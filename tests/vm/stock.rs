//! A sandbox, once it has settled, is the Debian that its image is when
//! anything else boots it: nothing that was left for later, or left out of the
//! way to readiness, is missing in the end.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use crate::harness::{Check, Host, Stock, Terminal, eventually, run_checks};

/// What is asked of both; see there for the sections of its report.
const PROBE: &str = include_str!("stock/probe.sh");

/// What a sandbox may have beyond a stock boot: section and line.
const ADDED: [(&str, &str); 6] = [
    // What it boots to before the default target, and who answers the host.
    ("units", "sandbox.target active"),
    ("units", "sandbox-agent.service running"),
    // The share, whose unit comes with the seed.
    ("units", "home-dev-workspace.mount mounted"),
    ("unit-files", "home-dev-workspace.mount generated"),
    ("generated", "./generator.early/home-dev-workspace.mount"),
    (
        "generated",
        "./generator.early/sandbox.target.d/50-credential.conf",
    ),
];

/// What a stock boot may have beyond a sandbox: the directory that it shares
/// with the test.
const MISSING: [(&str, &str); 1] = [("units", "mnt.mount mounted")];

/// Sections that must say exactly this, of both.
const CERTAIN: [(&str, &[&str]); 9] = [
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
    ("the journal is in memory at first", journal_in_memory),
    (
        "the journal is on disk once its directory is made",
        journal_on_disk,
    ),
    ("packages come from the mirror", packages),
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
    stock.assert_certain();
    cold.assert_like(&stock);
    run_checks(&host, CHECKS);
    host.stop();

    host.start(&[]);
    assert!(!host.info()["template"].is_null());
    host.settle();
    probe_sandbox(&host).assert_like(&stock);
    run_checks(&host, &CHECKS[..3]);
    host.stop();
}

/// In a login of the sandbox's user, as a user has it.
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

/// In the login of the console.
fn probe_stock(stock: &mut Stock) -> Report {
    fs::write(stock.directory().join("probe.sh"), PROBE).unwrap();
    stock.run("sudo sh -c 'sh /mnt/probe.sh $0 > /mnt/report' $XDG_SESSION_ID");
    Report::parse(&fs::read_to_string(stock.directory().join("report")).unwrap())
}

/// The lines of each section.
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
        assert!(sections.contains_key("end"), "the probe broke off: {text}");
        Self(sections)
    }

    /// That the probe has found what there is, and that all is well.
    #[track_caller]
    fn assert_certain(&self) {
        for (section, lines) in CERTAIN {
            let expected = lines.iter().map(|line| line.to_string()).collect();
            assert_eq!(self.0[section], expected, "{section}");
        }
        for section in ["units", "unit-files", "user-units", "generated"] {
            assert!(!self.0[section].is_empty(), "{section} is empty");
        }
    }

    #[track_caller]
    fn assert_like(&self, stock: &Self) {
        let added = self.beyond(stock, &ADDED);
        let missing = stock.beyond(self, &MISSING);
        assert!(
            added.is_empty() && missing.is_empty(),
            "a sandbox has {added:#?} and not {missing:#?} of a stock boot"
        );
    }

    /// What this one has and the other has not, and `explained` does not list.
    fn beyond(&self, other: &Self, explained: &[(&str, &str)]) -> Vec<String> {
        let mut beyond = Vec::new();
        for (section, lines) in &self.0 {
            for line in lines.difference(&other.0[section]) {
                if !explained.contains(&(section, line)) {
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
    eventually("what two timers start", || {
        let files = "test -e /run/timer-of-system && test -e $XDG_RUNTIME_DIR/timer-of-user";
        (host.exec(&["sh", "-c", files]).status == 0).then_some(())
    });
}

/// Where the journal is written to.
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
