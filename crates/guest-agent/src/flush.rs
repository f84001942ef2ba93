//! Writes cached data of the shares to the host.

use std::io;
use std::path::{Path, PathBuf};

use crate::kernel;
use crate::mountinfo::{self, Mount};

/// A share that could not be written out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FlushError {
    #[error("could not read `{}`", mountinfo::PATH)]
    Mounts { source: io::Error },
    #[error("could not sync `{path}`")]
    Sync { path: PathBuf, source: io::Error },
}

/// Writes out all shares and waits until the host has the data.
pub(crate) fn run() -> Result<(), FlushError> {
    let mounts = mountinfo::read().map_err(|source| FlushError::Mounts { source })?;
    for Mount { point, .. } in mounts.iter().filter(|mount| mount.file_system == "9p") {
        let path = Path::new(point);
        kernel::sync_file_system(path).map_err(|source| FlushError::Sync {
            path: path.to_owned(),
            source,
        })?;
    }
    Ok(())
}
