//! The image store: empty, with an image, and with damaged images.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use sandbox_spec::Digest;
use sandbox_store::image::{
    CONTRACT_VERSION, DiskFile, ImageContent, ImageFiles, KernelFile, KernelFormat, Metadata,
    StoredFile,
};
use sandbox_test_support::TestEnvironment;

use crate::PROGRAM;
use crate::transcript::{Session, with_qemu};

/// Stores an image as a build would. Returns the path of its disk.
pub(crate) fn store(environment: &TestEnvironment, name: &str, disk: &[u8]) -> PathBuf {
    let blobs = environment.images().join("blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    let put = |content: &[u8]| {
        let digest = Digest::of(content);
        let path = blobs.join(digest.hex());
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        StoredFile {
            digest,
            size_bytes: content.len() as u64,
        }
    };
    let disk = put(disk);
    let content = ImageContent {
        recipe_hash: Digest::of(b"recipe"),
        contract_version: CONTRACT_VERSION,
        architecture: "amd64".into(),
        created: "2026-01-02T03:04:05Z".parse().unwrap(),
        root_device: "/dev/vda".into(),
        command_line: "root=/dev/vda rw".into(),
        suite: "trixie".into(),
        mirror: "http://deb.debian.org/debian".into(),
        kernel_release: "6.12.0-1-amd64".into(),
        files: ImageFiles {
            disk: DiskFile {
                file: disk,
                virtual_size_bytes: 4 << 30,
            },
            kernel: KernelFile {
                file: put(b"kernel"),
                format: KernelFormat::Vmlinux,
            },
            modules: put(b"modules"),
        },
        packages: BTreeMap::from([("bash".into(), "5.2".into())]),
    };
    let metadata = Metadata::new(name.parse().unwrap(), content);
    let directory = environment.images().join("images").join(name);
    fs::create_dir_all(&directory).unwrap();
    fs::write(
        directory.join("metadata.json"),
        serde_json::to_vec(&metadata).unwrap(),
    )
    .unwrap();
    blobs.join(disk.digest.hex())
}

#[test]
fn image_commands_with_empty_store_report_nothing() {
    let environment = TestEnvironment::new(PROGRAM);
    let mut session = Session::new();
    for line in [
        "image ls",
        "image list",
        "image ls --json",
        "image inspect debian-13",
        "image rm debian-13",
        "image build debian-12",
        "run --image nope -- true",
    ] {
        session.run(&environment, line);
    }
    session.assert_snapshot("image_commands_with_empty_store_report_nothing");
}

#[test]
fn image_commands_with_one_image_list_and_remove_it() {
    let environment = with_qemu("10.0.2");
    let disk = store(&environment, "debian-13", b"disk");
    let mut session = Session::new();
    for line in [
        "image ls",
        "image ls --json",
        "image inspect debian-13",
        "--dry-run --quiet",
        "--dry-run --disk 2G",
        "image rm debian-13 nope",
        "image ls",
    ] {
        session.run(&environment, line);
    }
    session.assert_snapshot("image_commands_with_one_image_list_and_remove_it");
    assert!(!disk.exists());
}

#[test]
fn start_with_damaged_image_file_is_refused() {
    let environment = with_qemu("10.0.2");
    let mut session = Session::new();
    for (damage, content) in [
        ("truncated", Some(&b"di"[..])),
        ("changed", Some(b"dusk")),
        ("empty", Some(b"")),
        ("gone", None),
    ] {
        let disk = store(&environment, "debian-13", b"disk");
        match content {
            Some(content) => fs::write(disk, content).unwrap(),
            None => fs::remove_file(disk).unwrap(),
        }
        let output = environment.run(["--kvm"]);
        session.add(&format!("disk {damage}; sandbox --kvm"), &output);
        let output = environment.run(["run", "--", "true"]);
        session.add(&format!("disk {damage}; sandbox run -- true"), &output);
    }
    session.assert_snapshot("start_with_damaged_image_file_is_refused");
}

#[test]
fn image_commands_with_damaged_metadata_report_it() {
    let environment = with_qemu("10.0.2");
    let mut session = Session::new();
    store(&environment, "good", b"disk");
    store(&environment, "debian-13", b"disk");
    let path = environment.images().join("images/debian-13/metadata.json");
    let right = fs::read_to_string(&path).unwrap();
    for (damage, content) in [
        ("not JSON", "{".to_owned()),
        ("empty", String::new()),
        (
            "of another version",
            right.replacen("\"version\":1", "\"version\":7", 1),
        ),
        ("changed", right.replace("trixie", "bookworm")),
    ] {
        fs::write(&path, content).unwrap();
        for line in ["--kvm", "--dry-run", "image inspect debian-13", "image ls"] {
            let output = environment.run(shell_words::split(line).unwrap());
            session.add(&format!("metadata {damage}; sandbox {line}"), &output);
        }
    }
    session.run(&environment, "image rm debian-13");
    session.run(&environment, "image ls");
    session.assert_snapshot("image_commands_with_damaged_metadata_report_it");
}
