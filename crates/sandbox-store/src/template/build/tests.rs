use std::collections::HashSet;

use super::*;
use crate::template::shape::tests::sample;
use crate::template::store::tests::Fixture;
use crate::template::{EntryState, TemplateFault};

#[test]
fn begin_during_build_of_same_shape_is_busy() {
    let fixture = Fixture::new();
    let build = fixture.begin(sample(1));
    assert!(matches!(
        fixture.store.begin(sample(1)).unwrap(),
        Begin::Busy
    ));
    let other = fixture.begin(sample(2));
    assert_ne!(build.key(), other.key());
    Fixture::fill(&build);
    let template = build.commit(1).unwrap();
    match fixture.store.begin(sample(1)).unwrap() {
        Begin::Exists(found) => assert_eq!(found, template),
        other => panic!("{other:?}"),
    }
}

#[test]
fn concurrent_builds_of_one_shape_store_one_template() {
    let fixture = Fixture::new();
    let outcomes: Vec<&str> = std::thread::scope(|scope| {
        let builders: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| match fixture.store.begin(sample(1)).unwrap() {
                    Begin::Building(build) => {
                        Fixture::fill(&build);
                        build.commit(1).unwrap();
                        "built"
                    }
                    Begin::Busy => "busy",
                    Begin::Exists(_) => "exists",
                })
            })
            .collect();
        builders
            .into_iter()
            .map(|builder| builder.join().unwrap())
            .collect()
    });
    let built = outcomes
        .iter()
        .filter(|outcome| **outcome == "built")
        .count();
    assert_eq!(built, 1, "{outcomes:?}");
    assert_eq!(fixture.names(), [sample(1).key().hex(), "lock".to_owned()]);
}

#[test]
fn list_shows_build_in_progress() {
    let fixture = Fixture::new();
    let build = fixture.begin(sample(1));
    let entries = fixture.store.list().unwrap();
    assert_eq!(entries[0].key, build.key());
    match &entries[0].state {
        EntryState::Building { shape, .. } => assert_eq!(shape.as_deref(), Some(build.shape())),
        other => panic!("{other:?}"),
    }
    assert!(build.log().is_file());
    assert_eq!(fixture.store.find(&build.key()).unwrap(), None);
}

#[test]
fn dropped_build_leaves_only_its_log() {
    let fixture = Fixture::new();
    let build = fixture.begin(sample(1));
    Fixture::fill(&build);
    let log = build.log();
    drop(build);
    assert_eq!(fixture.names(), ["lock"]);
    assert!(log.is_file());
    let build = fixture.begin(sample(1));
    Fixture::fill(&build);
    build.commit(1).unwrap();
    assert!(!log.exists());
}

#[test]
fn begin_removes_directories_of_killed_builds() {
    let fixture = Fixture::new();
    for shape in [sample(1), sample(2)] {
        let build = fixture.begin(shape);
        Fixture::fill(&build);
        let left = build.directory().to_owned();
        let kept = left.with_file_name("kept");
        fs::rename(&left, &kept).unwrap();
        drop(build);
        fs::rename(&kept, &left).unwrap();
    }
    let build = fixture.begin(sample(1));
    let files: HashSet<String> = files::names_in(build.directory())
        .unwrap()
        .into_iter()
        .collect();
    assert_eq!(
        files,
        [BUILD_LOCK.to_owned(), BUILD_SHAPE.to_owned()].into()
    );
    let own = build.directory().file_name().unwrap().to_str().unwrap();
    assert_eq!(fixture.names(), [own, "lock"]);
}

#[test]
fn commit_with_missing_file_stores_nothing() {
    for missing in [RAM, STATE, DISK] {
        let fixture = Fixture::new();
        let build = fixture.begin(sample(1));
        Fixture::fill(&build);
        fs::remove_file(build.directory().join(missing)).unwrap();
        let error = build.commit(1).unwrap_err();
        let text = error.to_string();
        assert!(text.ends_with(&format!("/{missing}`")), "{text}");
        assert_eq!(fixture.names(), ["lock"], "{missing}");
    }
}

#[test]
fn commit_removes_scratch_files() {
    let fixture = Fixture::new();
    let build = fixture.begin(sample(1));
    Fixture::fill(&build);
    let seed = build.directory().join("seed");
    fs::create_dir(&seed).unwrap();
    fs::write(seed.join("x"), "x").unwrap();
    std::os::unix::fs::symlink("/", build.directory().join("link")).unwrap();
    fs::write(build.directory().join("qemu.pid"), "1").unwrap();
    let template = build.commit(1).unwrap();
    let names = files::names_in(template.directory.ram().parent().unwrap()).unwrap();
    assert_eq!(names, [DISK, RAM, STATE, METADATA]);
}

#[test]
fn begin_replaces_broken_template() {
    let fixture = Fixture::new();
    let template = fixture.store_template(sample(1));
    fs::write(template.directory.state(), "slate").unwrap();
    let made = fixture.store_template(sample(1));
    assert_eq!(fixture.store.find(&made.key).unwrap(), Some(made));
}

#[test]
fn commit_of_removed_directory_fails() {
    let fixture = Fixture::new();
    let build = fixture.begin(sample(1));
    Fixture::fill(&build);
    fs::remove_dir_all(build.directory()).unwrap();
    build.commit(1).unwrap_err();
    assert!(fixture.store.list().unwrap().is_empty());
}

#[test]
fn check_space_on_full_disk_hints_at_prune() {
    let fixture = Fixture::new();
    let check = |free| fixture.store.check_free_space(2 << 30, free);
    assert!(check(3 << 30).is_ok());
    let error = check((3 << 30) - 1).unwrap_err();
    assert!(matches!(error, TemplateError::LittleSpace { .. }));
    assert!(error.hint().unwrap().to_string().contains("sandbox prune"));
}

#[test]
fn full_disk_hints_at_prune_and_other_disk() {
    let full = FileError::new("store", "/x")(io::ErrorKind::StorageFull.into());
    let hint = TemplateError::from(full).hint().unwrap().to_string();
    assert!(hint.contains("sandbox prune") && hint.contains("SANDBOX_HOME"));
}

#[test]
fn wrong_length_shows_both_lengths() {
    let fault = TemplateFault::WrongLength {
        file: RAM,
        expected_bytes: 2,
        found_bytes: 1,
    };
    assert_eq!(fault.to_string(), "`ram` has 1 bytes instead of 2");
}
