use std::collections::HashSet;

use super::*;
use crate::template::shape::tests::sample;
use crate::template::store::tests::Fixture;
use crate::template::{EntryState, TemplateFault};

#[test]
fn two_builders_at_once_are_one() {
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
fn many_builders_at_once_make_one_template() {
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
fn a_build_is_listed_while_it_is_at_work() {
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
fn a_failed_build_leaves_nothing_but_its_log() {
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
fn what_a_killed_builder_left_is_swept_by_the_next() {
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
fn a_build_without_all_its_files_is_not_stored() {
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
fn scratch_of_a_build_is_no_part_of_the_template() {
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
fn a_broken_template_is_made_anew() {
    let fixture = Fixture::new();
    let template = fixture.store_template(sample(1));
    fs::write(template.directory.state(), "slate").unwrap();
    let made = fixture.store_template(sample(1));
    assert_eq!(fixture.store.find(&made.key).unwrap(), Some(made));
}

#[test]
fn a_build_that_was_removed_underneath_fails_to_be_stored() {
    let fixture = Fixture::new();
    let build = fixture.begin(sample(1));
    Fixture::fill(&build);
    fs::remove_dir_all(build.directory()).unwrap();
    build.commit(1).unwrap_err();
    assert!(fixture.store.list().unwrap().is_empty());
}

#[test]
fn little_space_is_told_with_the_way_out() {
    let fixture = Fixture::new();
    let judge = |free| fixture.store.judge_space(2 << 30, free);
    assert!(judge(3 << 30).is_ok());
    let error = judge((3 << 30) - 1).unwrap_err();
    assert!(matches!(error, TemplateError::LittleSpace { .. }));
    assert!(error.hint().unwrap().to_string().contains("sandbox prune"));
}

#[test]
fn a_full_disk_is_told_with_the_way_out() {
    let full = FileError::new("store", "/x")(io::ErrorKind::StorageFull.into());
    let hint = TemplateError::from(full).hint().unwrap().to_string();
    assert!(hint.contains("sandbox prune") && hint.contains("SANDBOX_HOME"));
}

#[test]
fn faults_read_as_sentences() {
    let fault = TemplateFault::WrongLength {
        file: RAM,
        expected_bytes: 2,
        found_bytes: 1,
    };
    assert_eq!(fault.to_string(), "`ram` has 1 bytes instead of 2");
}
