//! Small JSON files that cache the results of probes. Each holds a result and a key, the state that
//! the result depends on. If a file is missing or damaged, the probe runs again.

use std::path::Path;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use sandbox_host::files;
use sandbox_host::files::FileError;

/// The largest file to read, in bytes. All cache files are smaller.
const LARGEST: u64 = 64 * 1024;

#[derive(Serialize, Deserialize)]
struct Entry<Key, Value> {
    key: Key,
    value: Value,
}

/// Returns the value in `file`, or `None` if the file is missing, damaged, or has another key.
pub(super) fn recall<Key, Value>(file: &Path, key: &Key) -> Option<Value>
where
    Key: DeserializeOwned + PartialEq,
    Value: DeserializeOwned,
{
    let text = files::read_if_present(file, LARGEST).ok()??;
    let entry: Entry<Key, Value> = serde_json::from_slice(&text).ok()?;
    (entry.key == *key).then_some(entry.value)
}

/// Replaces `file` atomically (mode 0600, its directories 0700). Only logs a failure, since it only
/// makes the next start slower.
pub(super) fn remember<Key, Value>(file: &Path, key: Key, value: Value)
where
    Key: Serialize,
    Value: Serialize,
{
    if let Err(error) = replace(file, &Entry { key, value }) {
        tracing::debug!(file = %file.display(), %error, "could not cache a probe result");
    }
}

fn replace(file: &Path, content: &impl Serialize) -> Result<(), FileError> {
    let text = serde_json::to_vec(content)
        .map_err(|error| FileError::new("encode", file)(error.into()))?;
    if let Some(directory) = file.parent() {
        files::create_private_directory(directory)?;
    }
    files::write_private(file, &text)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn recall_needs_the_same_key() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("new/probe.json");
        remember(&file, "boot 1", 42);
        let recalled = |key: &str| recall::<String, i32>(&file, &key.to_owned());
        assert_eq!(recalled("boot 1"), Some(42));
        assert_eq!(recalled("boot 2"), None);
        assert_eq!(
            fs::metadata(&file).unwrap().permissions().mode() & 0o777,
            0o600
        );
        let names = fs::read_dir(file.parent().unwrap()).unwrap().count();
        assert_eq!(names, 1, "a temporary file is left");
    }

    #[test]
    fn recall_ignores_a_damaged_file() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("probe.json");
        for damage in [
            "",
            "{",
            "[]",
            r#"{"key":"boot 1"}"#,
            r#"{"key":1,"value":42}"#,
        ] {
            fs::write(&file, damage).unwrap();
            assert_eq!(
                recall::<String, i32>(&file, &"boot 1".to_owned()),
                None,
                "{damage}"
            );
        }
    }

    #[test]
    fn remember_ignores_an_unwritable_directory() {
        remember(Path::new("/proc/nowhere/probe.json"), "boot 1", 42);
    }
}
