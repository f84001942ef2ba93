//! Checks whether state and images can be stored.

use std::path::Path;

use nix::unistd::{AccessFlags, access};

use super::{Context, Finding};
use sandbox_host::files::free_bytes;

const DIRECTORY: &str = "state-directory";
const SPACE: &str = "free-space";

const GIBIBYTE: u64 = 1 << 30;

/// The minimum free space, in bytes. Below it, a sandbox fills the disk soon after its start.
const LEAST_FREE: u64 = GIBIBYTE;

/// The peak disk space of an image build, in bytes: the unpacked system, its file system and its
/// image.
const ENOUGH_FREE: u64 = 6 * GIBIBYTE;

pub(super) fn check(context: &Context) -> Vec<Finding> {
    let wanted = context.directories.state.as_path();
    // The first start creates the directory. Until then, this checks its nearest parent.
    let Some(existing) = wanted.ancestors().find(|path| path.exists()) else {
        return vec![unusable(wanted, wanted, "it has no existing parent")];
    };
    if !existing.is_dir() {
        return vec![unusable(wanted, existing, "not a directory")];
    }
    if let Err(errno) = access(existing, AccessFlags::W_OK | AccessFlags::X_OK) {
        return vec![unusable(wanted, existing, errno.desc())];
    }
    let found = Finding::ok(DIRECTORY, format!("`{}`", wanted.display()));
    let space = match free_bytes(existing) {
        Ok(free_bytes) => judge_space(wanted, free_bytes),
        Err(error) => unusable(wanted, existing, &error.source.to_string()),
    };
    vec![found, space]
}

fn unusable(wanted: &Path, cause: &Path, problem: &str) -> Finding {
    let detail = format!(
        "could not use `{}`: `{}`: {problem}",
        wanted.display(),
        cause.display()
    );
    let fix = "make it a directory you can write to, or set `SANDBOX_HOME` to one";
    Finding::failure(DIRECTORY, detail, Some(fix.into()))
}

fn judge_space(directory: &Path, free_bytes: u64) -> Finding {
    let free = format!(
        "{:.1} GiB free in `{}`",
        free_bytes as f64 / GIBIBYTE as f64,
        directory.display()
    );
    let fix =
        Some("free space there, or set `SANDBOX_HOME` to a directory on a larger disk".into());
    if free_bytes < LEAST_FREE {
        Finding::failure(SPACE, free, fix)
    } else if free_bytes < ENOUGH_FREE {
        let detail = format!(
            "{free}: building a base image may take {} GiB",
            ENOUGH_FREE / GIBIBYTE
        );
        Finding::warning(SPACE, detail, fix)
    } else {
        Finding::ok(SPACE, free)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Outcome;
    use super::*;

    #[test]
    fn free_space_below_an_image_build_is_reported() {
        let cases = [
            (GIBIBYTE - 1, Outcome::Failure),
            (GIBIBYTE, Outcome::Warning),
            (6 * GIBIBYTE, Outcome::Ok),
        ];
        for (free, expected) in cases {
            assert_eq!(
                judge_space(Path::new("/state"), free).outcome,
                expected,
                "{free}"
            );
        }
    }
}
