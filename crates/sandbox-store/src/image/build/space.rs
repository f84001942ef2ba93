//! Free space before a build, and the lack of it as the cause of a failure.

use std::io;
use std::path::Path;

use super::super::error::ImageError;
use super::error::BuildError;
use super::workspace::Workspace;
use sandbox_host::files::free_bytes;

/// What a build of a small image needs at least in the store and in the scratch directory,
/// in bytes. A larger one needs more; running out later is an error of its own.
const NEEDED_BYTES: u64 = 1 << 30;
/// Less than this after a failure and the disk counts as full, in bytes.
const FULL_BYTES: u64 = 8 << 20;
/// How programs tell it: the text of ENOSPC, and apt before it starts.
const NO_SPACE: [&str; 2] = [
    "No space left on device",
    "You don't have enough free space in",
];

/// Fails when there is too little space to start.
pub(super) fn check(workspace: &Workspace<'_>) -> Result<(), BuildError> {
    match scarcest(workspace) {
        Some((path, available_bytes)) if available_bytes < NEEDED_BYTES => {
            Err(full(path, available_bytes))
        }
        _ => Ok(()),
    }
}

/// The full disk, if that is why a program or a write failed, else `error` itself.
/// To be called while the build's files are still there.
pub(super) fn explain(error: BuildError, workspace: &Workspace<'_>) -> BuildError {
    let told = match &error {
        BuildError::Program { last_lines, .. } => {
            NO_SPACE.iter().any(|text| last_lines.contains(text))
        }
        BuildError::Store(ImageError::Io { source, .. }) => {
            source.kind() == io::ErrorKind::StorageFull
        }
        _ => return error,
    };
    match scarcest(workspace) {
        Some((path, available_bytes)) if told || available_bytes < FULL_BYTES => {
            full(path, available_bytes)
        }
        _ => error,
    }
}

/// The build's directory with the least free space, and how much that is in bytes.
fn scarcest<'a>(workspace: &'a Workspace<'_>) -> Option<(&'a Path, u64)> {
    [workspace.staging(), workspace.scratch()]
        .into_iter()
        .filter_map(|path| Some((path.parent()?, free_bytes(path).ok()?)))
        .min_by_key(|(_, available)| *available)
}

fn full(path: &Path, available_bytes: u64) -> BuildError {
    BuildError::DiskFull {
        path: path.to_owned(),
        available_bytes,
        needed_bytes: NEEDED_BYTES,
    }
}
