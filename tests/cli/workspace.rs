//! Directories that cannot be a workspace, and sandbox names from directories.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use sandbox_test_support::{Output, TestEnvironment};

use crate::PROGRAM;
use crate::transcript::{Session, bound_by_permissions, shell, with_qemu};

fn run_in(environment: &TestEnvironment, directory: &Path, line: &str) -> Output {
    let words = shell_words::split(line).unwrap();
    Output::of(environment.command(words).current_dir(directory))
}

#[test]
fn unshareable_directory_is_refused_as_workspace() {
    let environment = with_qemu("10.0.2");
    let mut session = Session::new();
    for line in ["--dry-run", "run -- true", "exec -- true", "info"] {
        let output = run_in(&environment, Path::new("/"), line);
        session.add(&format!("cd /; sandbox {line}"), &output);
    }
    let home = environment.home();
    session.add(
        "cd ~; sandbox --dry-run",
        &run_in(&environment, &home, "--dry-run"),
    );
    let gone = "mkdir gone && cd gone && rmdir ../gone && \"$SANDBOX\" --dry-run";
    session.add(gone, &Output::of(&mut shell(&environment, gone)));
    let unreadable = environment.project();
    fs::set_permissions(&unreadable, fs::Permissions::from_mode(0o300)).unwrap();
    let output = Output::of(&mut bound_by_permissions(&environment, "--dry-run"));
    fs::set_permissions(&unreadable, fs::Permissions::from_mode(0o700)).unwrap();
    session.add("chmod 300 .; sandbox --dry-run", &output);
    session.assert_snapshot("unshareable_directory_is_refused_as_workspace");
}

#[test]
fn directory_without_usable_name_needs_name_flag() {
    let environment = with_qemu("10.0.2");
    let mut session = Session::new();
    for name in ["...", "---", &"long".repeat(30), "日本"] {
        let directory = environment.root().join(name);
        fs::create_dir(&directory).unwrap();
        let output = run_in(&environment, &directory, "--dry-run");
        session.add(&format!("cd {name}; sandbox --dry-run"), &output);
        let named = run_in(&environment, &directory, "--dry-run --name good").success();
        assert!(named.stdout.starts_with("sandbox    good\n"), "{named}");
    }
    session.assert_snapshot("directory_without_usable_name_needs_name_flag");
}

#[test]
fn unwritable_state_directory_is_reported() {
    let environment = with_qemu("10.0.2");
    crate::images::store(&environment, "debian-13", b"disk");
    let state = environment.state();
    let sandboxes = state.join("kvm-vms");
    fs::create_dir(&sandboxes).unwrap();
    fs::set_permissions(&sandboxes, fs::Permissions::from_mode(0o500)).unwrap();
    let mut session = Session::new();
    for line in ["--kvm", "run -- true"] {
        let output = Output::of(&mut bound_by_permissions(&environment, &format!("{line} ")));
        session.add(&format!("chmod 500 kvm-vms; sandbox {line}"), &output);
    }
    fs::set_permissions(&state, fs::Permissions::from_mode(0o000)).unwrap();
    for line in ["--kvm", "list", "image ls", "stop --all", "exec -- true"] {
        let output = Output::of(&mut bound_by_permissions(&environment, line));
        session.add(
            &format!("chmod 0 ~/.cache/sandbox; sandbox {line}"),
            &output,
        );
    }
    fs::set_permissions(&state, fs::Permissions::from_mode(0o700)).unwrap();
    session.assert_snapshot("unwritable_state_directory_is_reported");
}

#[test]
fn relative_directory_variable_is_refused() {
    let mut session = Session::new();
    for (name, value) in [
        ("SANDBOX_HOME", "relative/state"),
        ("XDG_CACHE_HOME", "relative"),
        ("XDG_CONFIG_HOME", "relative"),
    ] {
        let environment = TestEnvironment::new(PROGRAM).variable(name, value);
        let output = environment.run(["list"]);
        session.add(&format!("{name}={value} sandbox list"), &output);
    }
    session.assert_snapshot("relative_directory_variable_is_refused");
}
