//! The template store, `df` and `prune`, with an empty store and with crafted stores.

use std::fs::{self, File, FileTimes};
use std::io::{Read, Write};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use sandbox_host::directories::Directories;
use sandbox_spec::{Accelerator, TemplateKey};
use sandbox_store::template::{Begin, Build, Shape, TemplateStore};
use sandbox_test_support::TestEnvironment;

use crate::stale::{self, Bystander};
use crate::transcript::{Session, with_qemu};
use crate::{PROGRAM, images};

/// The version that the fake QEMU prints.
const QEMU: &str = "10.0.2";

fn templates(environment: &TestEnvironment) -> TemplateStore {
    TemplateStore::new(&Directories {
        state: environment.state(),
        data: environment.home().join(".local/share/sandbox"),
        config: environment.home(),
        home: environment.home(),
        runtime: environment.runtime(),
    })
}

/// Returns the shape of a start with the stored image. `cpus` distinguishes shapes.
fn shape(environment: &TestEnvironment, cpus: u32) -> Shape {
    let store = sandbox_store::image::ImageStore::new(environment.images());
    let image = store.open(&"debian-13".parse().unwrap()).unwrap();
    Shape {
        image_digest: image.unwrap().metadata.digest,
        image_name: "debian-13".parse().unwrap(),
        kernel_command_line: "root=/dev/vda rw".into(),
        qemu_version: QEMU.into(),
        hardware: "-machine q35 -cpu max".into(),
        cpus,
        memory_bytes: 2 << 30,
        disk_bytes: 20 << 30,
        share_devices: 4,
        accelerator: Accelerator::Tcg,
        host_processor: String::new(),
        program: sandbox::inside::program(),
    }
}

fn begin(environment: &TestEnvironment, shape: Shape) -> Build {
    match templates(environment).begin(shape).unwrap() {
        Begin::Building(build) => build,
        other => panic!("{other:?}"),
    }
}

/// Stores a template of 3.3 MB with a fixed time of creation.
fn store(environment: &TestEnvironment, shape: Shape) -> TemplateKey {
    let build = begin(environment, shape);
    fs::write(build.directory().ram(), vec![0xa5; 3_300_000]).unwrap();
    fs::write(build.directory().state(), "state").unwrap();
    fs::write(build.directory().disk(), "disk").unwrap();
    let template = build.commit(4 << 30).unwrap();
    let record = record(environment, &template.key);
    let mut metadata = template.metadata;
    metadata.created = "2026-01-02T03:04:05Z".parse().unwrap();
    metadata.build_seconds = 12.5;
    fs::write(&record, serde_json::to_vec(&metadata).unwrap()).unwrap();
    template.key
}

fn record(environment: &TestEnvironment, key: &TemplateKey) -> PathBuf {
    let directory = templates(environment).root().join(key.hex());
    directory.join("template.json")
}

fn set_last_use(environment: &TestEnvironment, key: &TemplateKey, time: SystemTime) {
    let record = File::open(record(environment, key)).unwrap();
    record
        .set_times(FileTimes::new().set_modified(time))
        .unwrap();
}

/// Creates an environment with an image and a QEMU whose version is cached.
fn environment() -> TestEnvironment {
    let environment = with_qemu(QEMU);
    images::store(&environment, "debian-13", b"disk");
    // This start fails at the unknown recipe, after it has cached the version of QEMU.
    let output = environment.run(["run", "--image", "nope", "--", "true"]);
    assert_eq!(output.status, 125, "{output}");
    environment
}

fn keys(environment: &TestEnvironment) -> Vec<TemplateKey> {
    let survey = templates(environment).survey().unwrap();
    survey.entries.iter().map(|entry| entry.key).collect()
}

#[test]
fn template_commands_with_empty_store_report_nothing() {
    let environment = TestEnvironment::new(PROGRAM);
    let mut session = Session::new();
    for line in [
        "template ls",
        "template list --json",
        "template inspect 0123",
        "template rm 0123",
        "template rm --all",
        "df",
        "df --json",
        "prune",
        "prune --all --dry-run",
        "--dry-run prune",
    ] {
        session.run(&environment, line);
    }
    session.assert_snapshot("template_commands_with_empty_store_report_nothing");
    assert!(
        !environment.state().exists(),
        "a command created the state directory"
    );
}

/// Allowlists and access logs outlive their sandboxes. `df` counts the logs, and `prune`
/// keeps both.
#[test]
fn proxy_logs_are_counted_by_df_and_kept_by_prune() {
    let environment = TestEnvironment::new(PROGRAM);
    let directory = environment.state().join("sandbox-proxy/box");
    fs::create_dir_all(&directory).unwrap();
    for name in ["access.jsonl", "access.jsonl.1", "allowlist.txt"] {
        fs::write(directory.join(name), "x".repeat(100_000)).unwrap();
    }
    let output = environment.run(["df", "--json"]).success();
    let rows: Vec<serde_json::Value> = serde_json::from_str(&output.stdout).unwrap();
    let logs = rows.iter().find(|row| row["kind"] == "logs").unwrap();
    assert_eq!(logs["count"], 2, "{logs}");
    assert!(
        logs["allocated_bytes"].as_u64().unwrap() >= 200_000,
        "{logs}"
    );
    assert_eq!(logs["reclaimable_bytes"], 0, "{logs}");
    environment.run(["prune", "--all"]).success();
    assert_eq!(fs::read_dir(&directory).unwrap().count(), 3);
}

#[test]
fn template_commands_with_one_template_list_and_remove_it() {
    let environment = environment();
    let key = store(&environment, shape(&environment, 2));
    let then = jiff::Timestamp::from_second(1_770_000_000).unwrap();
    set_last_use(&environment, &key, then.into());
    let mut session = Session::new();
    for line in [
        "template ls",
        "template ls --json",
        &format!("template inspect {key}"),
        &format!("template inspect --json {}", key.hex()),
        "df",
        "df --json",
        &format!("template rm {key} {key}"),
        "template ls",
    ] {
        session.run(&environment, line);
    }
    session.assert_snapshot("template_commands_with_one_template_list_and_remove_it");
    assert!(keys(&environment).is_empty());
}

#[test]
fn template_commands_during_build_report_it() {
    let environment = environment();
    let build = begin(&environment, shape(&environment, 2));
    let key = build.key();
    let listed = environment.run(["template", "ls"]).success().stdout;
    assert!(
        listed.contains(&format!("{key}  building for ")),
        "{listed}"
    );
    let mut session = Session::new();
    for line in [
        "template ls --json",
        &format!("template inspect {key}"),
        &format!("template rm {key}"),
        "template rm --all",
        "prune --all",
    ] {
        session.run(&environment, line);
    }
    session.assert_snapshot("template_commands_during_build_report_it");
    assert!(build.directory().is_dir());
    drop(build);
    let output = environment.run(["template", "ls"]).success();
    assert_eq!(output.stdout.lines().count(), 1, "{output}");
}

#[test]
fn template_with_broken_record_is_pruned() {
    let environment = environment();
    let key = store(&environment, shape(&environment, 1));
    fs::write(record(&environment, &key), "{").unwrap();
    let mut session = Session::new();
    for line in [
        "template ls",
        &format!("template inspect {key}"),
        "prune --dry-run",
        "prune",
        "prune",
    ] {
        session.run(&environment, line);
    }
    session.assert_snapshot("template_with_broken_record_is_pruned");
    assert!(keys(&environment).is_empty());
}

#[test]
fn prune_with_unusable_templates_removes_only_those() {
    let environment = environment();
    let now = SystemTime::now();
    let useful = shape(&environment, 1);
    let kept = store(&environment, useful.clone());
    let unused = store(&environment, shape(&environment, 2));
    set_last_use(
        &environment,
        &unused,
        now - Duration::from_secs(31 * 24 * 60 * 60),
    );
    let recent = store(&environment, shape(&environment, 3));
    set_last_use(
        &environment,
        &recent,
        now - Duration::from_secs(29 * 24 * 60 * 60),
    );
    let obsolete = [
        Shape {
            image_digest: sandbox_spec::Digest::of(b"another"),
            ..useful.clone()
        },
        Shape {
            program: "0.0.1 agent".into(),
            ..useful.clone()
        },
        Shape {
            qemu_version: "9.0.0".into(),
            ..useful
        },
    ];
    for shape in obsolete {
        store(&environment, shape);
    }
    let expect = |arguments: &[&str], expected: &[&str], last: &str| {
        let output = environment.run(arguments).success();
        for text in expected {
            let lines = output.stdout.lines().filter(|line| line.contains(text));
            assert_eq!(lines.count(), 1, "{text}\n{output}");
        }
        assert_eq!(
            output.stdout.lines().count(),
            expected.len() + 1,
            "{output}"
        );
        assert_eq!(output.stdout.lines().last(), Some(last), "{output}");
    };
    let reasons = [
        "its image is no longer stored, 3 MB",
        "built by another version of `sandbox`, 3 MB",
        "saved by another version of QEMU, 3 MB",
        "not used for 30 days, 3 MB",
    ];
    expect(&["prune", "-n"], &reasons, "would free 13 MB");
    assert_eq!(
        keys(&environment).len(),
        6,
        "the preview removed a template"
    );
    expect(&["prune"], &reasons, "freed 13 MB");
    assert_eq!(keys(&environment), [kept, recent]);
    expect(&["prune"], &[], "nothing to remove");
    // Without a terminal on stdin, `prune --all` does not ask.
    expect(
        &["prune", "--all"],
        &[
            &format!("template {kept}: no running sandbox uses it"),
            &format!("template {recent}: no running sandbox uses it"),
        ],
        "freed 6 MB",
    );
}

#[test]
fn template_in_use_is_kept_by_prune_and_removed_by_rm() {
    let environment = environment();
    let used = store(&environment, shape(&environment, 1));
    let other = store(&environment, shape(&environment, 2));
    let supervisor = Bystander::start("box".as_ref());
    let record = stale::record(&environment, "box", None);
    let mut record: serde_json::Value = serde_json::from_slice(&record).unwrap();
    record["supervisor"] = serde_json::to_value(supervisor.identity()).unwrap();
    record["template"] = used.hex().into();
    stale::leave_state(&environment, "box", record.to_string().as_bytes());
    let lock = File::open(environment.sandbox("box").join("lock")).unwrap();
    lock.lock().unwrap();
    let listed = environment.run(["template", "ls"]).success().stdout;
    let line = listed
        .lines()
        .find(|line| line.starts_with(&used.to_string()));
    assert!(line.unwrap().contains("  in use  "), "{listed}");
    let output = environment.run(["prune", "--all"]).success();
    assert!(output.stdout.contains(&other.to_string()), "{output}");
    assert_eq!(keys(&environment), [used]);
    let output = environment.run(["template", "rm", "--all"]).success();
    let expected = format!("removed `{used}`; its 3 MB become free when the sandbox `box` stops\n");
    assert_eq!(output.stderr, expected);
    assert!(keys(&environment).is_empty());
    drop(lock);
    environment.run(["stop", "--all"]).success();
}

#[test]
fn prune_with_interrupted_work_removes_leftovers() {
    let environment = environment();
    let templates = templates(&environment);
    store(&environment, shape(&environment, 1));
    let partial = templates.root().join(format!(".partial-{:064}", 0));
    fs::create_dir(&partial).unwrap();
    fs::write(partial.join("lock"), "").unwrap();
    let blob = environment
        .images()
        .join("blobs/sha256")
        .join("0".repeat(64));
    fs::write(&blob, "old").unwrap();
    let log = environment.images().join("logs/template-0123456789ab.log");
    fs::write(&log, "failed").unwrap();
    let old = SystemTime::now() - Duration::from_secs(31 * 24 * 60 * 60);
    let times = FileTimes::new().set_modified(old);
    File::open(&log).unwrap().set_times(times).unwrap();
    stale::leave_state(
        &environment,
        "box",
        &stale::record(&environment, "box", None),
    );
    // A live process holds the lock of a directory that must stay.
    let guests = ["dead", "alive"].map(|name| environment.state().join("building").join(name));
    let [guest, living_guest] = guests;
    for guest in [&guest, &living_guest] {
        fs::create_dir_all(guest).unwrap();
        fs::write(guest.join("lock"), "").unwrap();
    }
    let living = File::open(living_guest.join("lock")).unwrap();
    living.lock().unwrap();
    let left = [partial, blob, log, guest, environment.sandbox("box")];
    let mut session = Session::new();
    session.run(&environment, "df");
    session.run(&environment, "prune --dry-run");
    for path in &left {
        assert!(path.exists(), "{}", path.display());
    }
    session.run(&environment, "prune");
    for path in &left {
        assert!(!path.exists(), "{}", path.display());
    }
    session.run(&environment, "prune");
    session.assert_snapshot("prune_with_interrupted_work_removes_leftovers");
    assert!(living_guest.exists());
}

#[test]
fn prune_with_unremovable_item_removes_the_rest() {
    // The removal of an interrupted image build needs programs that this PATH lacks.
    let environment = environment().variable("PATH", "/nowhere");
    let build = environment.images().join("staging/build-1");
    fs::create_dir_all(&build).unwrap();
    stale::leave_state(
        &environment,
        "box",
        &stale::record(&environment, "box", None),
    );
    let output = environment.run(["prune"]);
    assert_eq!(output.status, 1, "{output}");
    assert_eq!(output.stdout, "1 dead sandbox, 0 MB\nfreed 0 MB\n");
    assert!(output.stderr.starts_with("error: "), "{output}");
    assert!(output.stderr.contains("hint: "), "{output}");
    assert!(build.exists() && !environment.sandbox("box").exists());
}

#[test]
fn prune_all_at_terminal_asks_before_removing_usable_templates() {
    const QUESTION: &str = "also remove 1 template that starts may use (3 MB)?";
    let environment = environment();
    for (line, answer, status, is_removed) in [
        ("prune --all", "\n", 1, false),
        ("prune --all", "no\n", 1, false),
        ("prune --all", "y\n", 0, true),
        ("prune --all --yes", "", 0, true),
        ("prune", "", 0, false),
    ] {
        let key = store(&environment, shape(&environment, 1));
        let (output, shown) = run_at_terminal(&environment, line, answer);
        assert_eq!(
            output.status.code(),
            Some(status),
            "{line} {answer:?} {shown}"
        );
        assert_eq!(shown.contains(QUESTION), !answer.is_empty(), "{shown}");
        assert_eq!(
            keys(&environment).is_empty(),
            is_removed,
            "{line} {answer:?}"
        );
        templates(&environment).discard(&key).unwrap();
    }
}

/// Runs `sandbox LINE` at a terminal with these keys typed. Also returns the text on the
/// terminal.
fn run_at_terminal(
    environment: &TestEnvironment,
    line: &str,
    typed: &str,
) -> (std::process::Output, String) {
    let terminal = nix::pty::openpty(None, None).unwrap();
    let mut command = environment.command(shell_words::split(line).unwrap());
    command
        .stdin(terminal.slave.try_clone().unwrap())
        .stdout(std::process::Stdio::piped())
        .stderr(terminal.slave);
    let mut user = File::from(terminal.master);
    user.write_all(typed.as_bytes()).unwrap();
    let output = command.output().unwrap();
    // The command holds the last other end of the terminal. Without it, reading ends with
    // an error.
    drop(command);
    let mut shown = Vec::new();
    user.read_to_end(&mut shown).ok();
    (output, String::from_utf8(shown).unwrap())
}

#[test]
fn image_rm_with_templates_removes_them() {
    let environment = environment();
    images::store(&environment, "other", b"other disk");
    let key = store(&environment, shape(&environment, 1));
    let output = environment.run(["image", "rm", "other"]).success();
    assert_eq!(output.stderr, "removed `other`\n");
    assert_eq!(keys(&environment), [key]);
    let output = environment.run(["image", "rm", "debian-13"]).success();
    let expected = format!("removed `debian-13`\nremoved its template `{key}`\n");
    assert_eq!(output.stderr, expected);
    assert!(keys(&environment).is_empty());
}
