//! Detects a changed file by its `stat`, on demand.
//!
//! This needs no thread, no descriptor, and no change notifications of the file system.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// The age below which a file can change again and keep its stamp, since the clocks of file systems
/// are coarse.
const FRESH_SECONDS: i64 = 2;

/// The values of `stat` that change if a file is written or replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileStamp {
    device: u64,
    inode: u64,
    size_bytes: u64,
    changed_seconds: i64,
    changed_nanoseconds: i64,
}

impl FileStamp {
    /// Returns the current stamp of the file at `path`; `None` if `stat` fails.
    ///
    /// Take the stamp before the content is read: the next stamp then shows a write in between.
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

    /// Returns whether the last change is so recent that an equal stamp does not prove equal
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
    fn written_or_replaced_file_has_another_stamp_and_is_fresh() {
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
