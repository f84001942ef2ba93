//! Checks the free space before a build and after a failure.

use std::io;
use std::path::Path;

use sandbox_host::files::free_bytes;

use super::super::error::ImageError;
use super::error::BuildError;
use super::workspace::Workspace;

/// The space that a build of a small image needs in the store and in the scratch directory, in
/// bytes. A larger image needs more, and fails later if the disk becomes full.
const NEEDED_BYTES: u64 = 1 << 30;
/// The free space below which the disk counts as full after a failure, in bytes.
const FULL_BYTES: u64 = 8 << 20;
/// Messages of a full disk: the text of ENOSPC, and the message of apt before a download.
const NO_SPACE: [&str; 2] = [
    "No space left on device",
    "You don't have enough free space in",
];

/// Fails if the disk has too little space for a build.
pub(super) fn check(workspace: &Workspace<'_>) -> Result<(), BuildError> {
    match scarcest(workspace) {
        Some((path, available_bytes)) if available_bytes < NEEDED_BYTES => {
            Err(full(path, available_bytes))
        }
        _ => Ok(()),
    }
}

/// Returns [`BuildError::DiskFull`] if a full disk is the cause of `error`, else `error` itself.
/// Must be called before the build's files are removed.
pub(super) fn explain(error: BuildError, workspace: &Workspace<'_>) -> BuildError {
    let is_reported = match &error {
        BuildError::Program { last_lines, .. } => {
            NO_SPACE.iter().any(|text| last_lines.contains(text))
        }
        BuildError::Store(ImageError::File(error)) => {
            error.source.kind() == io::ErrorKind::StorageFull
        }
        _ => return error,
    };
    match scarcest(workspace) {
        Some((path, available_bytes)) if is_reported || available_bytes < FULL_BYTES => {
            full(path, available_bytes)
        }
        _ => error,
    }
}

/// Returns the build's directory with the least free space, and this space in bytes.
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
