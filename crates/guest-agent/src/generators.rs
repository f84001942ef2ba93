//! Masks systemd's generators until the sandbox is ready.
//!
//! PID 1 runs all generators, and waits for them, before it starts the first
//! unit. None is needed that early. A link to `/dev/null` in the generator
//! directory with the highest priority masks a generator
//! (systemd.generator(7)).

use std::os::unix::fs::symlink;
use std::path::Path;
use std::{fs, io};

/// The directory of the masks. Packages install no generators there.
const MASKS: &str = "/run/systemd/system-generators";

/// The directories of packages and of the administrator, below the root.
const DIRECTORIES: [&str; 3] = [
    "usr/lib/systemd/system-generators",
    "usr/local/lib/systemd/system-generators",
    "etc/systemd/system-generators",
];

const DEV_NULL: &str = "/dev/null";

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
            match symlink(DEV_NULL, Path::new(MASKS).join(name)) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
        }
    }
    Ok(())
}

/// Removes the masks. systemd runs the generators at its next reload.
pub(crate) fn unmask() -> io::Result<()> {
    for entry in fs::read_dir(MASKS)? {
        let path = entry?.path();
        if fs::read_link(&path).is_ok_and(|target| target == Path::new(DEV_NULL)) {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}
