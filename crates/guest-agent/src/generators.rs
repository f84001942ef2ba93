//! Keeps systemd's generators from running before the sandbox is ready.
//!
//! Each generator is a program that PID 1 runs and waits for before it starts
//! the first unit. None is needed so early. They are masked by links to
//! `/dev/null` in the generator directory that comes first in the search
//! order (systemd.generator(7)), and run once the sandbox is ready.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::{fs, io};

/// Where masks go; generators of packages are elsewhere.
const MASKS: &str = "/run/systemd/system-generators";

/// Where generators of packages and of the administrator are, below the root.
const DIRECTORIES: [&str; 3] = [
    "usr/lib/systemd/system-generators",
    "usr/local/lib/systemd/system-generators",
    "etc/systemd/system-generators",
];

const NOTHING: &str = "/dev/null";

/// Masks all generators below `root`.
pub(crate) fn mask(root: &Path) -> io::Result<()> {
    fs::create_dir_all(MASKS)?;
    for directory in DIRECTORIES {
        let entries = match fs::read_dir(root.join(directory)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            entries => entries?,
        };
        for entry in entries {
            let name = entry?.file_name();
            match symlink(NOTHING, Path::new(MASKS).join(name)) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
        }
    }
    Ok(())
}

/// Removes the masks again. systemd runs the generators at its next reload.
pub(crate) fn unmask() -> io::Result<()> {
    for entry in fs::read_dir(MASKS)? {
        let path = entry?.path();
        if fs::read_link(&path).is_ok_and(|target| target == Path::new(NOTHING)) {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}
