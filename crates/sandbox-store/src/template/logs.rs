//! Logs of builds. The log of a failed build stays for some time.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use sandbox_host::files;
use sandbox_spec::TemplateKey;

use super::error::TemplateError;
use super::store::TemplateStore;

/// The time after which the log of a failed build expires.
pub const LOG_KEPT: Duration = Duration::from_secs(30 * 24 * 60 * 60);

const PREFIX: &str = "template-";
const SUFFIX: &str = ".log";

impl TemplateStore {
    /// Returns the log of the build for `key` that is in progress or that failed last.
    pub fn log(&self, key: &TemplateKey) -> PathBuf {
        self.logs.join(format!("{PREFIX}{key}{SUFFIX}"))
    }

    /// Returns the logs of failed builds that are older than [`LOG_KEPT`].
    ///
    /// # Errors
    ///
    /// The directory cannot be read.
    pub fn expired_logs(&self) -> Result<Vec<PathBuf>, TemplateError> {
        let now = SystemTime::now();
        let is_expired = |path: &PathBuf| {
            let changed = fs::metadata(path).and_then(|found| found.modified());
            changed.is_ok_and(|changed| now.duration_since(changed).is_ok_and(|age| age > LOG_KEPT))
        };
        let names = files::names_in(&self.logs)?;
        Ok(names
            .into_iter()
            .filter(|name| name.starts_with(PREFIX) && name.ends_with(SUFFIX))
            .map(|name| self.logs.join(name))
            .filter(is_expired)
            .collect())
    }

    /// Removes [`TemplateStore::expired_logs`]. Returns the size that they had on the disk, in
    /// bytes.
    ///
    /// # Errors
    ///
    /// The directory cannot be read, or a log cannot be removed.
    pub fn remove_expired_logs(&self) -> Result<u64, TemplateError> {
        let mut bytes = 0;
        for path in self.expired_logs()? {
            bytes += files::allocated_bytes(&path);
            files::remove_file_if_present(&path)?;
        }
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::template::store::tests::Fixture;

    #[test]
    fn remove_expired_logs_keeps_recent_and_image_logs() {
        let fixture = Fixture::new();
        let logs = fixture.store.logs.clone();
        fs::create_dir_all(&logs).unwrap();
        let old = SystemTime::now() - LOG_KEPT - Duration::from_secs(60);
        for (name, time) in [
            ("template-1.log", old),
            ("template-2.log", SystemTime::now()),
            ("build-debian-13.log", old),
        ] {
            let file = fs::File::create(logs.join(name)).unwrap();
            file.set_modified(time).unwrap();
        }
        assert_eq!(
            fixture.store.expired_logs().unwrap(),
            [logs.join("template-1.log")]
        );
        fixture.store.remove_expired_logs().unwrap();
        assert_eq!(
            files::names_in(&logs).unwrap(),
            ["build-debian-13.log", "template-2.log"]
        );
    }
}
