//! Tests of the search, with shell scripts in place of QEMU.

use std::ffi::OsString;
use std::fs;

use super::*;

struct Machine {
    home: tempfile::TempDir,
    program_override: Option<OsString>,
}

impl Machine {
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        Self {
            home,
            program_override: None,
        }
    }

    fn install(&self, name: &str, script: &str) -> PathBuf {
        let path = self.home.path().join(name);
        let source = self.home.path().join("source");
        fs::write(&source, format!("#!/bin/sh\n{script}\n")).unwrap();
        // Another process writes the program. If this one did, a child that another test's thread
        // forks could inherit the open file, and running it would fail ("text file busy").
        let mut install = Command::new("install");
        install.args(["-m", "755"]).arg(source).arg(&path);
        assert!(install.status().unwrap().success());
        path
    }

    fn locate(&self) -> Result<QemuProgram, ProgramError> {
        self.with_search(locate)
    }

    fn with_search<T>(&self, search: impl FnOnce(Search<'_>) -> T) -> T {
        search(Search {
            program_override: self.program_override.as_deref(),
            search_path: Some(self.home.path().as_os_str()),
            cache_directory: &self.home.path().join("cache"),
        })
    }
}

#[test]
fn locate_runs_an_unchanged_program_once() {
    let machine = Machine::new();
    let log = machine.home.path().join("log");
    let script = |version: &str| {
        format!(
            "echo asked >> {}; echo QEMU emulator version {version}",
            log.display()
        )
    };
    let path = machine.install(PROGRAM, &script("8.2.2"));
    for _ in 0..2 {
        let version = QemuVersion::new(8, 2, 2);
        assert_eq!(
            machine.locate().unwrap(),
            QemuProgram {
                path: path.clone(),
                version
            }
        );
    }
    assert_eq!(fs::read_to_string(&log).unwrap(), "asked\n");

    machine.install(PROGRAM, &script("10.0.2"));
    assert_eq!(
        machine.locate().unwrap().version,
        QemuVersion::new(10, 0, 2)
    );
}

#[test]
fn remembered_version_holds_for_an_unchanged_program() {
    let machine = Machine::new();
    let remembered = || machine.with_search(remembered_version);
    assert_eq!(remembered(), None);
    machine.install(PROGRAM, "echo QEMU emulator version 9.0.0");
    assert_eq!(remembered(), None);
    machine.locate().unwrap();
    assert_eq!(remembered(), Some(QemuVersion::new(9, 0, 0)));
    machine.install(PROGRAM, "echo QEMU emulator version 10.0.0");
    assert_eq!(remembered(), None);
}

#[test]
fn missing_program_hint_names_the_package() {
    let machine = Machine::new();
    fs::write(machine.home.path().join(PROGRAM), "not executable").unwrap();
    let error = machine.locate().unwrap_err();
    assert!(matches!(error, ProgramError::Missing { .. }), "{error}");
    let hint = |distribution| error.hint_for(distribution).unwrap();
    assert_eq!(
        hint(Distribution::Debian),
        "install it: `sudo apt-get install qemu-system-x86`"
    );
    assert!(hint(Distribution::Other).contains("SANDBOX_QEMU"));
}

#[test]
fn locate_rejects_an_old_program() {
    let machine = Machine::new();
    machine.install(PROGRAM, "echo QEMU emulator version 5.2.0");
    let error = machine.locate().unwrap_err().to_string();
    assert!(error.starts_with("QEMU 5.2.0 (`/"), "{error}");
    assert!(
        error.ends_with("is too old: at least 7.2.0 is needed"),
        "{error}"
    );
}

#[test]
fn locate_accepts_a_path_or_a_name_as_override() {
    let mut machine = Machine::new();
    let path = machine.install("my-qemu", "echo QEMU emulator version 9.0.0");
    for value in [path.as_os_str(), OsStr::new("my-qemu")] {
        machine.program_override = Some(value.to_owned());
        assert_eq!(machine.locate().unwrap().path, path);
    }
    machine.program_override = Some("/nowhere/qemu".into());
    let error = machine.locate().unwrap_err();
    assert!(
        matches!(error, ProgramError::OverrideMissing { .. }),
        "{error}"
    );
}

#[test]
fn locate_rejects_a_program_other_than_qemu() {
    let machine = Machine::new();
    machine.install(PROGRAM, "echo hello; echo more");
    let error = machine.locate().unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("did not report a QEMU version: `hello`"),
        "{error}"
    );
}

#[test]
fn probe_features_reads_the_answers_of_the_program() {
    let machine = Machine::new();
    // QEMU 10 answers like this: its status is 0 even after an error.
    let path = machine.install(
        PROGRAM,
        "case $1 in
        -netdev) printf 'Available netdev backend types:\\nsocket\\nstream\\n' ;;
        -device) echo \"Device 'virtio-9p-pci' not found\" >&2 ;;
        *) exit 1 ;;
        esac",
    );
    let expected = Features {
        stream_network: true,
        shared_directories: false,
        seccomp: false,
    };
    assert_eq!(probe_features(&path).unwrap(), expected);

    machine.install(PROGRAM, "echo virtio-9p-pci options:");
    let expected = Features {
        stream_network: false,
        shared_directories: true,
        seccomp: true,
    };
    assert_eq!(probe_features(&path).unwrap(), expected);
}
