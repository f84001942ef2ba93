//! Whether a file has changed since it was read, by what `stat` says of it: for files that are
//! looked at when they are asked for, which needs no thread, no descriptor, and no file system
//! that tells of changes.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// A file that changed within this time may change again and look the same: the clocks of file
/// systems are coarse.
const FRESH_SECONDS: i64 = 2;

/// What changes when a file is written or replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileStamp {
    device: u64,
    inode: u64,
    size_bytes: u64,
    changed_seconds: i64,
    changed_nanoseconds: i64,
}

impl FileStamp {
    /// The stamp of the file at `path` as it is now; none where it cannot be looked at. To be
    /// taken before the content is read: what is written meanwhile is then seen the next time.
    pub fn of(path: &Path) -> Option<Self> {
        let found = fs::metadata(path).ok()?;
        Some(Self {
            device: found.dev(),
            inode: found.ino(),
            size_bytes: found.size(),
            changed_seconds: found.ctime(),
            changed_nanoseconds: found.ctime_nsec(),
        })
    }

    /// Whether the file changed so shortly ago that the same stamp does not mean the same
    /// content.
    pub fn is_fresh(&self) -> bool {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |now| i64::try_from(now.as_secs()).unwrap_or(i64::MAX));
        now.saturating_sub(self.changed_seconds) < FRESH_SECONDS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_written_or_replaced_file_has_another_stamp_and_is_fresh() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a");
        assert_eq!(FileStamp::of(&path), None);
        fs::write(&path, "one").unwrap();
        let first = FileStamp::of(&path).unwrap();
        assert!(first.is_fresh());
        assert_eq!(FileStamp::of(&path), Some(first));
        fs::write(&path, "longer").unwrap();
        let second = FileStamp::of(&path).unwrap();
        assert_ne!(second, first);
        let other = directory.path().join("b");
        fs::write(&other, "longer").unwrap();
        fs::rename(&other, &path).unwrap();
        assert_ne!(FileStamp::of(&path), Some(second));
        let changed_seconds = first.changed_seconds - FRESH_SECONDS;
        let older = FileStamp {
            changed_seconds,
            ..first
        };
        assert!(!older.is_fresh());
    }
}
