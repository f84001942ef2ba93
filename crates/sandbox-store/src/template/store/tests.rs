//! The store with small files in place of memory and disks.

use std::fs::FileTimes;
use std::os::unix::fs::PermissionsExt;
use std::time::SystemTime;

use super::*;
use crate::template::shape::tests::sample;
use crate::template::{Begin, Build, EntryState, METADATA_VERSION, Shape};
use sandbox_spec::KeyPrefix;

pub(crate) struct Fixture {
    _directory: tempfile::TempDir,
    pub(crate) store: TemplateStore,
}

impl Fixture {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let directories = Directories {
            state: directory.path().join("state"),
            data: directory.path().join("data"),
            config: directory.path().into(),
            home: directory.path().into(),
            runtime: directory.path().into(),
        };
        Self {
            _directory: directory,
            store: TemplateStore::new(&directories),
        }
    }

    pub(crate) fn begin(&self, shape: Shape) -> Build {
        match self.store.begin(shape).unwrap() {
            Begin::Building(build) => build,
            other => panic!("{other:?}"),
        }
    }

    /// Fills a build as QEMU does: 64 KiB of memory behind a hole of 1 TiB.
    pub(crate) fn fill(build: &Build) {
        use std::os::unix::fs::FileExt;
        let ram = File::create(build.directory().ram()).unwrap();
        ram.write_all_at(&[7; 65536], 1 << 40).unwrap();
        fs::write(build.directory().state(), "state").unwrap();
        fs::write(build.directory().disk(), "disk").unwrap();
    }

    pub(crate) fn store_template(&self, shape: Shape) -> Template {
        let build = self.begin(shape);
        Self::fill(&build);
        build.commit(20 << 30).unwrap()
    }

    pub(crate) fn set_last_use(&self, key: &TemplateKey, time: SystemTime) {
        let record = File::open(self.store.directory(key).join(METADATA)).unwrap();
        record
            .set_times(FileTimes::new().set_modified(time))
            .unwrap();
    }

    pub(crate) fn names(&self) -> Vec<String> {
        files::names_in(self.store.root()).unwrap()
    }
}

fn prefix(text: &str) -> KeyPrefix {
    text.parse().unwrap()
}

#[test]
fn reading_functions_without_store_create_nothing() {
    let fixture = Fixture::new();
    let key = sample(1).key();
    assert_eq!(fixture.store.find(&key).unwrap(), None);
    assert_eq!(fixture.store.discard(&key).unwrap(), None);
    assert!(fixture.store.list().unwrap().is_empty());
    assert_eq!(fixture.store.collect_garbage().unwrap(), 0);
    fixture.store.touch(&key);
    assert!(!fixture.store.root().exists());
}

#[test]
fn stored_template_is_found_and_listed() {
    let fixture = Fixture::new();
    let stored = fixture.store_template(sample(1 << 31));
    let key = sample(1 << 31).key();
    assert_eq!(stored.key, key);
    assert_eq!(fixture.store.find(&key).unwrap(), Some(stored.clone()));
    assert_eq!(fixture.store.find(&sample(1).key()).unwrap(), None);
    assert_eq!(
        fs::read_to_string(stored.directory.state()).unwrap(),
        "state"
    );
    assert_eq!(fs::read_to_string(stored.directory.disk()).unwrap(), "disk");
    assert_eq!(stored.metadata.files.ram_bytes, (1 << 40) + 65536);
    assert_eq!(stored.metadata.disk_bytes, 20 << 30);
    let entries = fixture.store.list().unwrap();
    assert_eq!(entries.len(), 1);
    assert_eq!(entries[0].key, key);
    assert!(matches!(entries[0].state, EntryState::Ready(_)));
    assert_eq!(entries[0].shape().unwrap().memory_bytes, 1 << 31);
    assert!((1..1 << 30).contains(&entries[0].allocated_bytes));
}

#[test]
fn store_is_private() {
    let fixture = Fixture::new();
    let template = fixture.store_template(sample(1));
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    for directory in [fixture.store.root(), &template.directory] {
        assert_eq!(mode(directory), 0o700, "{}", directory.display());
    }
    let names = files::names_in(&template.directory).unwrap();
    assert_eq!(names, [DISK, RAM, STATE, METADATA]);
    for name in names {
        assert_eq!(mode(&template.directory.join(&name)), 0o600, "{name}");
    }
    assert_eq!(mode(&fixture.store.root().join("lock")), 0o600);
}

#[test]
fn find_broken_template_returns_none_and_keeps_it() {
    type Damager = fn(&Template);
    let cases: [(&str, Damager, &str); 9] = [
        (
            "ram gone",
            |t| fs::remove_file(t.directory.ram()).unwrap(),
            "`ram` is missing",
        ),
        (
            "ram truncated",
            |t| fs::write(t.directory.ram(), "x").unwrap(),
            "`ram` has 1 bytes",
        ),
        (
            "state gone",
            |t| fs::remove_file(t.directory.state()).unwrap(),
            "`state` is missing",
        ),
        (
            "state truncated",
            |t| fs::write(t.directory.state(), "sta").unwrap(),
            "`state` has 3 bytes instead of 5",
        ),
        (
            "disk gone",
            |t| fs::remove_file(t.directory.disk()).unwrap(),
            "`disk.qcow2` is missing",
        ),
        (
            "disk grown",
            |t| fs::write(t.directory.disk(), "disk ").unwrap(),
            "`disk.qcow2` has 5 bytes",
        ),
        (
            "record gone",
            |t| fs::remove_file(t.directory.join(METADATA)).unwrap(),
            "`template.json` is missing",
        ),
        (
            "record not JSON",
            |t| fs::write(t.directory.join(METADATA), "{").unwrap(),
            "its record is damaged",
        ),
        (
            "record of another shape",
            |t| {
                let mut metadata = t.metadata.clone();
                metadata.shape.cpus += 1;
                let json = serde_json::to_vec(&metadata).unwrap();
                fs::write(t.directory.join(METADATA), json).unwrap();
            },
            "its record belongs to another template",
        ),
    ];
    for (case, damage, expected) in cases {
        let fixture = Fixture::new();
        let template = fixture.store_template(sample(1));
        damage(&template);
        let entries = fixture.store.list().unwrap();
        match &entries[0].state {
            EntryState::Broken(fault) => {
                assert!(fault.to_string().starts_with(expected), "{case}: {fault}");
            }
            other => panic!("{case}: {other:?}"),
        }
        assert_eq!(fixture.store.find(&template.key).unwrap(), None, "{case}");
        assert_eq!(
            fixture.names(),
            [template.key.hex(), "lock".into()],
            "{case}"
        );
    }
}

#[test]
fn find_template_with_changed_state_returns_none() {
    let fixture = Fixture::new();
    let template = fixture.store_template(sample(1));
    fs::write(template.directory.state(), "slate").unwrap();
    assert_eq!(fixture.store.find(&template.key).unwrap(), None);
    assert_eq!(fixture.store.peek(&template.key).unwrap(), None);
}

#[test]
fn template_of_other_version_stays_until_a_build_replaces_it() {
    let fixture = Fixture::new();
    let template = fixture.store_template(sample(1));
    let record = template.directory.join(METADATA);
    let other = format!(r#"{{"version":{},"new":1}}"#, METADATA_VERSION + 1);
    fs::write(&record, other).unwrap();
    assert_eq!(fixture.store.find(&template.key).unwrap(), None);
    assert!(record.exists());
    let entries = fixture.store.list().unwrap();
    assert!(matches!(
        entries[0].state,
        EntryState::Broken(TemplateFault::OtherVersion(_))
    ));
    let made = fixture.store_template(sample(1));
    assert_eq!(fixture.store.find(&made.key).unwrap(), Some(made));
    assert_eq!(fixture.names().len(), 2);
}

#[test]
fn discard_keeps_open_files_readable() {
    use std::io::Read;
    let fixture = Fixture::new();
    let template = fixture.store_template(sample(1));
    let mut open = File::open(template.directory.disk()).unwrap();
    let bytes = fixture.store.discard(&template.key).unwrap().unwrap();
    assert!(bytes >= 65536);
    assert_eq!(fixture.store.find(&template.key).unwrap(), None);
    assert_eq!(fixture.names(), ["lock"]);
    let mut content = String::new();
    open.read_to_string(&mut content).unwrap();
    assert_eq!(content, "disk");
    assert_eq!(fixture.store.discard(&template.key).unwrap(), None);
}

#[test]
fn touch_moves_template_to_front_of_list() {
    let fixture = Fixture::new();
    let one = fixture.store_template(sample(1)).key;
    let two = fixture.store_template(sample(2)).key;
    let old = SystemTime::now() - std::time::Duration::from_secs(3600);
    fixture.set_last_use(&one, old);
    let keys = || -> Vec<_> {
        let entries = fixture.store.list().unwrap();
        entries.iter().map(|entry| entry.key).collect()
    };
    assert_eq!(keys(), [two, one]);
    fixture.set_last_use(&two, old - std::time::Duration::from_secs(60));
    assert_eq!(keys(), [one, two]);
    fixture.store.touch(&two);
    assert_eq!(keys(), [two, one]);
}

#[test]
fn resolve_needs_an_unambiguous_prefix() {
    let fixture = Fixture::new();
    let keys: Vec<TemplateKey> = (1..=17)
        .map(|number| fixture.store_template(sample(number)).key)
        .collect();
    // Among 17 keys, two begin with the same of 16 digits.
    let same = (0..16)
        .map(|digit| format!("{digit:x}"))
        .find(|digit| {
            keys.iter()
                .filter(|key| key.hex().starts_with(digit))
                .count()
                > 1
        })
        .unwrap();
    let error = fixture.store.resolve(&prefix(&same)).unwrap_err();
    assert!(matches!(error, TemplateError::Ambiguous { .. }), "{error}");
    for key in &keys {
        assert_eq!(
            fixture.store.resolve(&prefix(&key.hex())).unwrap().key,
            *key
        );
        assert_eq!(
            fixture
                .store
                .resolve(&prefix(&key.to_string()))
                .unwrap()
                .key,
            *key
        );
    }
    let unknown = sample(99).key();
    let error = fixture.store.resolve(&prefix(&unknown.hex())).unwrap_err();
    assert!(matches!(error, TemplateError::Unknown(_)), "{error}");
}

#[test]
fn collect_garbage_removes_directories_of_interrupted_builds_and_removals() {
    let fixture = Fixture::new();
    let kept = fixture.store_template(sample(1)).key;
    // The directories of a killed build and of a killed removal.
    let partial = fixture.store.partial(&sample(2).key());
    fs::create_dir(&partial).unwrap();
    fs::write(partial.join(BUILD_LOCK), "").unwrap();
    fs::write(partial.join(RAM), [1; 100_000]).unwrap();
    let removed = fixture.store.root().join(".removed-1-1");
    fs::create_dir(&removed).unwrap();
    fs::write(removed.join(STATE), "state").unwrap();
    let survey = fixture.store.survey().unwrap();
    assert_eq!(survey.entries.len(), 1);
    let paths: Vec<_> = survey.orphans.iter().map(|orphan| &orphan.path).collect();
    assert_eq!(paths, [&*partial, &*removed]);
    assert_eq!(fixture.store.list().unwrap().len(), 1);
    assert!(partial.exists() && removed.exists());
    assert!(fixture.store.collect_garbage().unwrap() >= 100_000);
    assert_eq!(fixture.names(), [kept.hex(), "lock".to_owned()]);
}

#[test]
fn collect_garbage_keeps_foreign_files() {
    let fixture = Fixture::new();
    fixture.store_template(sample(1));
    let foreign = fixture.store.root().join("notes");
    fs::create_dir(&foreign).unwrap();
    assert!(fixture.store.survey().unwrap().orphans.is_empty());
    let file = fixture.store.root().join(".partial-file");
    fs::write(&file, "").unwrap();
    assert_eq!(fixture.store.list().unwrap().len(), 1);
    fixture.store.collect_garbage().unwrap();
    assert!(foreign.exists() && file.exists());
    fixture.begin(sample(2));
}

#[test]
fn reading_functions_change_nothing() {
    let fixture = Fixture::new();
    let template = fixture.store_template(sample(1));
    fs::remove_file(template.directory.ram()).unwrap();
    let lock = fixture.store.root().join("lock");
    for has_lock in [true, false] {
        if !has_lock {
            fs::remove_file(&lock).unwrap();
        }
        let names = fixture.names();
        assert_eq!(fixture.store.find(&template.key).unwrap(), None);
        assert_eq!(fixture.store.peek(&template.key).unwrap(), None);
        assert_eq!(fixture.store.list().unwrap().len(), 1);
        assert_eq!(fixture.store.survey().unwrap().entries.len(), 1);
        fixture.store.resolve(&prefix(&template.key.hex())).unwrap();
        assert_eq!(fixture.names(), names);
    }
}

#[test]
fn list_with_unreadable_template_shows_the_others() {
    let fixture = Fixture::new();
    fixture.store_template(sample(1));
    let bad = fixture.store_template(sample(2));
    let record = bad.directory.join(METADATA);
    fs::remove_file(&record).unwrap();
    fs::create_dir(&record).unwrap();
    fixture.store.find(&bad.key).unwrap_err();
    let entries = fixture.store.list().unwrap();
    assert_eq!(entries.len(), 2);
    let broken = entries.iter().find(|entry| entry.key == bad.key).unwrap();
    assert!(matches!(
        &broken.state,
        EntryState::Broken(TemplateFault::Inaccessible(_))
    ));
    fixture.store.discard(&bad.key).unwrap().unwrap();
    assert_eq!(fixture.store.list().unwrap().len(), 1);
}
