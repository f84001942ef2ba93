//! The store with small files in place of disks.

use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::image::metadata::tests::sample;

struct Fixture {
    directory: tempfile::TempDir,
    store: ImageStore,
}

impl Fixture {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = ImageStore::new(directory.path().join("kvm-cache"));
        Self { directory, store }
    }

    fn commit(&self, name: &str, disk: &str, kernel: &str) -> Image {
        let path = |file: &str| self.directory.path().join(file);
        fs::write(path("disk"), disk).unwrap();
        fs::write(path("kernel"), kernel).unwrap();
        fs::write(path("modules"), "modules").unwrap();
        let metadata = sample(name, disk.as_bytes(), kernel.as_bytes(), b"modules");
        let staged = StagedFiles {
            disk: path("disk"),
            kernel: path("kernel"),
            modules: path("modules"),
        };
        self.store.commit(&metadata, &staged).unwrap()
    }

    fn blob_count(&self) -> usize {
        names_in(&self.store.blobs()).unwrap().len()
    }
}

fn reference(name: &str) -> ImageReference {
    name.parse().unwrap()
}

#[test]
fn stored_image_is_opened_and_listed() {
    let fixture = Fixture::new();
    assert!(fixture.store.open(&reference("one")).unwrap().is_none());
    assert!(fixture.store.list().unwrap().is_empty());
    let image = fixture.commit("one", "disk", "kernel");
    assert_eq!(fs::read_to_string(&image.disk).unwrap(), "disk");
    assert_eq!(fs::read_to_string(&image.kernel).unwrap(), "kernel");
    let found = fixture.store.open(&reference("one")).unwrap().unwrap();
    assert_eq!(found.metadata, image.metadata);
    found.verify().unwrap();
    let names: Vec<_> = fixture.store.list().unwrap();
    assert_eq!(names.len(), 1);
    assert_eq!(names[0].reference, reference("one"));
}

#[test]
fn store_is_private() {
    let fixture = Fixture::new();
    let image = fixture.commit("one", "disk", "kernel");
    let root = fixture.store.root();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    for directory in ["", "blobs", "blobs/sha256", "images", "images/one"] {
        assert_eq!(mode(&root.join(directory)), 0o700, "{directory}");
    }
    for file in [
        root.join("lock"),
        root.join("images/one/metadata.json"),
        root.join("images/one/fingerprints.json"),
        image.disk,
    ] {
        assert_eq!(mode(&file), 0o600, "{}", file.display());
    }
}

#[test]
fn remove_keeps_blobs_of_other_images() {
    let fixture = Fixture::new();
    fixture.commit("one", "disk one", "kernel");
    let two = fixture.commit("two", "disk two", "kernel");
    assert_eq!(fixture.blob_count(), 4);
    assert!(fixture.store.remove(&reference("one")).unwrap());
    assert!(!fixture.store.remove(&reference("one")).unwrap());
    assert!(fixture.store.open(&reference("one")).unwrap().is_none());
    assert_eq!(fixture.blob_count(), 3);
    two.verify().unwrap();
    assert!(fixture.store.remove(&reference("two")).unwrap());
    assert_eq!(fixture.blob_count(), 0);
}

#[test]
fn collect_garbage_removes_blobs_of_replaced_image() {
    let fixture = Fixture::new();
    let old = fixture.commit("one", "old", "kernel");
    let new = fixture.commit("one", "new", "kernel");
    assert!(old.disk.exists());
    let usage = fixture.store.usage().unwrap();
    let garbage: Vec<_> = usage.blobs.iter().map(|blob| &blob.path).collect();
    assert_eq!(garbage, [&old.disk]);
    fixture.store.collect_garbage().unwrap();
    assert!(fixture.store.usage().unwrap().blobs.is_empty());
    assert!(!old.disk.exists());
    new.verify().unwrap();
}

#[test]
fn unreadable_image_is_listed_and_keeps_all_blobs() {
    let fixture = Fixture::new();
    fixture.commit("one", "disk one", "kernel");
    let metadata = fixture.store.root().join("images/one/metadata.json");
    fs::write(&metadata, r#"{"version":99}"#).unwrap();
    let entries = fixture.store.list().unwrap();
    let error = entries[0].image.as_ref().unwrap_err();
    assert!(matches!(
        error,
        ImageError::UnknownMetadataVersion { found: 99, .. }
    ));
    assert!(
        error
            .hint()
            .unwrap()
            .to_string()
            .contains("sandbox image build one")
    );
    fixture.store.collect_garbage().unwrap();
    assert_eq!(fixture.blob_count(), 3);
    assert!(fixture.store.remove(&reference("one")).unwrap());
    assert_eq!(fixture.blob_count(), 0);
}

#[test]
fn usage_reports_dead_builds_as_garbage() {
    let fixture = Fixture::new();
    assert_eq!(fixture.store.usage().unwrap().allocated_bytes, 0);
    assert!(!fixture.store.root().exists());
    let staging = fixture.store.staging();
    for name in ["alive", "dead"] {
        create_private_directory(&staging.join(name)).unwrap();
    }
    let lock = files::open_private(&staging.join("alive/lock")).unwrap();
    lock.lock().unwrap();
    let usage = fixture.store.usage().unwrap();
    let paths: Vec<_> = usage.builds.iter().map(|build| &build.path).collect();
    assert_eq!(paths, [&staging.join("dead")]);
}

#[test]
fn verify_damaged_disk_fails() {
    type Damager = fn(&Path);
    let cases: [(&str, Damager, Damage); 3] = [
        (
            "truncated",
            |path| fs::write(path, "di").unwrap(),
            Damage::WrongSize {
                expected_bytes: 4,
                found_bytes: 2,
            },
        ),
        (
            "changed",
            |path| fs::write(path, "risk").unwrap(),
            Damage::WrongContent,
        ),
        (
            "missing",
            |path| fs::remove_file(path).unwrap(),
            Damage::Missing,
        ),
    ];
    for (case, damager, expected) in cases {
        let fixture = Fixture::new();
        let image = fixture.commit("one", "disk", "kernel");
        damager(&image.disk);
        let error = image.verify().unwrap_err();
        match &error {
            ImageError::Corrupt { damage, path, .. } => {
                assert_eq!((damage, path), (&expected, &image.disk), "{case}");
            }
            other => panic!("{case}: {other}"),
        }
        assert!(
            error
                .hint()
                .unwrap()
                .to_string()
                .contains("sandbox image build one")
        );
    }
}

#[test]
fn verify_copied_disk_records_its_fingerprint() {
    let fixture = Fixture::new();
    let image = fixture.commit("one", "disk", "kernel");
    // The same content with another inode, as after a copy.
    fs::remove_file(&image.disk).unwrap();
    fs::write(&image.disk, "disk").unwrap();
    let recorded = || Fingerprints::read(&image.fingerprints);
    let found = || Fingerprint::of(&image.disk).unwrap().unwrap();
    let digest = image.metadata.content.files.disk.file.digest;
    assert!(!recorded().confirm(&digest, &found()));
    image.verify().unwrap();
    assert!(recorded().confirm(&digest, &found()));
}

#[test]
fn verify_damaged_fingerprints_records_them_again() {
    let fixture = Fixture::new();
    let image = fixture.commit("one", "disk", "kernel");
    let before = Fingerprints::read(&image.fingerprints);
    fs::write(&image.fingerprints, "damaged").unwrap();
    image.verify().unwrap();
    assert_eq!(Fingerprints::read(&image.fingerprints), before);
}
