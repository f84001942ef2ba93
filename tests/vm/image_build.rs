//! Builds of a base image that are interrupted or killed.

use std::fs;
use std::path::PathBuf;

use nix::sys::signal::{Signal, killpg};
use sandbox_test_support::TestEnvironment;

use crate::PROGRAM;
use crate::harness::Running;

const BUILD: [&str; 3] = ["image", "build", "debian-13-minimal"];

#[test]
fn interrupted_image_build_leaves_nothing() {
    let environment = TestEnvironment::new(PROGRAM);
    for stage in [
        "reading package lists",
        "downloading packages",
        "installing packages",
    ] {
        eprintln!("    SIGINT at `{stage}`");
        let running = Running::start(&mut environment.command(BUILD));
        running.expect_stderr(stage);
        let scratch = scratch_directories(&environment);
        running.signal(Signal::SIGINT);
        let output = running.finish();
        assert_eq!(output.status, 130, "{output}");
        assert_nothing_left(&environment, &scratch);
    }
    // Ctrl-C at a terminal reaches every program of the build at once.
    let running = Running::start(&mut environment.command(BUILD));
    running.expect_stderr("downloading packages");
    let scratch = scratch_directories(&environment);
    killpg(running.pid(), Signal::SIGINT).unwrap();
    let output = running.finish();
    assert_eq!(output.status, 130, "{output}");
    assert_nothing_left(&environment, &scratch);
}

#[test]
fn killed_image_build_ends_its_programs_and_next_build_cleans_up() {
    let environment = TestEnvironment::new(PROGRAM);
    let running = Running::start(&mut environment.command(BUILD));
    running.expect_stderr("downloading packages");
    let mut scratch = scratch_directories(&environment);
    running.signal(Signal::SIGKILL);
    assert_eq!(running.finish().status, 137);
    crate::harness::eventually("the end of the programs of the build", || {
        environment.processes().is_empty().then_some(())
    });
    let running = Running::start(&mut environment.command(BUILD));
    running.expect_stderr("reading package lists");
    scratch.extend(scratch_directories(&environment));
    running.signal(Signal::SIGINT);
    assert_eq!(running.finish().status, 130);
    assert_nothing_left(&environment, &scratch);
}

/// Returns the directories in which the builds of this environment unpack their systems.
/// Each staging directory names one.
fn scratch_directories(environment: &TestEnvironment) -> Vec<PathBuf> {
    let staging = fs::read_dir(environment.images().join("staging")).unwrap();
    let scratch: Vec<PathBuf> = staging
        .flatten()
        .map(|entry| {
            fs::read_to_string(entry.path().join("scratch"))
                .unwrap()
                .into()
        })
        .collect();
    assert!(
        scratch.iter().any(|directory| directory.exists()),
        "{scratch:?}"
    );
    scratch
}

/// Asserts that no program, mount, image or directory of the build is left.
fn assert_nothing_left(environment: &TestEnvironment, scratch: &[PathBuf]) {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    for directory in scratch {
        assert!(!directory.exists(), "{}", directory.display());
        assert!(!mounts.contains(directory.to_str().unwrap()), "{mounts}");
    }
    let left = environment.leftovers();
    assert!(left.is_empty(), "{left:#?}");
    let listed = environment.run(["image", "ls", "--json"]).success();
    assert_eq!(listed.stdout.trim(), "[]");
    for directory in ["staging", "blobs/sha256", "images"] {
        let directory = environment.images().join(directory);
        let names: Vec<_> = fs::read_dir(&directory)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
            .collect();
        assert!(names.is_empty(), "{names:?}");
    }
}
