//! The device file `/dev/kvm`: opening it, its permissions, and the cached verdict of its probe.

use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::errno::Errno;
use nix::unistd::{Gid, Group, Uid, User};
use serde::{Deserialize, Serialize};

use super::probe;
use super::verdict::{KvmVerdict, Permissions, ProbeStep};
use crate::arch::Processor;
use crate::probe_cache;

const DEVICE: &str = "/dev/kvm";
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// The name of the file in the cache directory that holds the verdict.
pub const CACHE_FILE: &str = "kvm-verdict.json";

/// Everything that a cached verdict depends on.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct CacheKey {
    tool_version: String,
    boot_id: String,
    device_number: u64,
    device_mode: u32,
    device_owner: u32,
    device_group: u32,
    caller: u32,
}

/// Probes `/dev/kvm`. This takes 1 ms on hardware, 0.1 s on an emulation, and at most 2.5 s.
pub fn probe_kvm() -> KvmVerdict {
    match open(Path::new(DEVICE)) {
        Ok(device) => probe::measure(device),
        Err(verdict) => verdict,
    }
}

/// Returns the verdict of [`probe_kvm`], from [`CACHE_FILE`] in `cache_directory` if it is from
/// this boot. Otherwise probes, and caches the verdict there.
///
/// Opens the device in each case, and so notices changed permissions.
pub fn probe_kvm_once_per_boot(cache_directory: &Path) -> KvmVerdict {
    match open(Path::new(DEVICE)) {
        Ok(device) => recall_or_measure(device, cache_directory, probe::measure),
        Err(verdict) => verdict,
    }
}

fn recall_or_measure(
    device: File,
    cache_directory: &Path,
    measure: impl FnOnce(File) -> KvmVerdict,
) -> KvmVerdict {
    let Some(key) = cache_key(&device) else {
        return measure(device);
    };
    let file = cache_directory.join(CACHE_FILE);
    if let Some(verdict) = probe_cache::recall(&file, &key) {
        return verdict;
    }
    let verdict = measure(device);
    if verdict.is_lasting() {
        probe_cache::remember(&file, key, &verdict);
    }
    verdict
}

fn cache_key(device: &File) -> Option<CacheKey> {
    let metadata = device.metadata().ok()?;
    let boot_id = std::fs::read_to_string(BOOT_ID).ok()?;
    Some(CacheKey {
        tool_version: env!("CARGO_PKG_VERSION").to_owned(),
        boot_id: boot_id.trim().to_owned(),
        device_number: metadata.rdev(),
        device_mode: metadata.mode(),
        device_owner: metadata.uid(),
        device_group: metadata.gid(),
        caller: Uid::effective().as_raw(),
    })
}

fn open(path: &Path) -> Result<File, KvmVerdict> {
    let error = match OpenOptions::new().read(true).write(true).open(path) {
        Ok(device) => return Ok(device),
        Err(error) => error,
    };
    let errno = error.raw_os_error().map_or(Errno::EIO, Errno::from_raw);
    Err(match errno {
        // A device node can exist without a driver.
        Errno::ENOENT | Errno::ENODEV | Errno::ENXIO => KvmVerdict::Missing {
            processor: Processor::of_this_machine(),
        },
        Errno::EACCES | Errno::EPERM => match std::fs::metadata(path) {
            Ok(metadata) => KvmVerdict::Forbidden(permissions(&metadata)),
            Err(error) => failed_to_open(&error),
        },
        _ => failed_to_open(&error),
    })
}

fn failed_to_open(error: &io::Error) -> KvmVerdict {
    KvmVerdict::Failed {
        step: ProbeStep::Open,
        errno: error.raw_os_error().unwrap_or(Errno::EIO as i32),
    }
}

fn permissions(metadata: &Metadata) -> Permissions {
    let owner = User::from_uid(Uid::from_raw(metadata.uid())).ok().flatten();
    let group = Group::from_gid(Gid::from_raw(metadata.gid()))
        .ok()
        .flatten();
    let caller = User::from_uid(Uid::effective()).ok().flatten();
    let joined = match (&group, &caller) {
        (Some(group), Some(caller)) => group.mem.contains(&caller.name) || caller.gid == group.gid,
        _ => false,
    };
    Permissions {
        owner: owner.map_or_else(|| metadata.uid().to_string(), |owner| owner.name),
        group: group.map_or_else(|| metadata.gid().to_string(), |group| group.name),
        mode: metadata.mode() & 0o7777,
        caller_is_root: Uid::effective().is_root(),
        caller_joined_group: joined,
    }
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn open_absent_device_is_missing() {
        let home = tempfile::tempdir().unwrap();
        let verdict = open(&home.path().join("kvm")).unwrap_err();
        assert!(matches!(verdict, KvmVerdict::Missing { .. }), "{verdict:?}");
    }

    #[test]
    fn measure_ordinary_file_fails_to_read_the_version() {
        let verdict = probe::measure(tempfile::tempfile().unwrap());
        let expected = KvmVerdict::Failed {
            step: ProbeStep::ReadVersion,
            errno: Errno::ENOTTY as i32,
        };
        assert_eq!(verdict, expected);
    }

    #[test]
    fn permissions_name_owner_and_group() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let permissions = permissions(&file.as_file().metadata().unwrap());
        assert_eq!(permissions.mode, 0o600);
        assert_eq!(permissions.caller_is_root, Uid::effective().is_root());
        assert!(!permissions.owner.is_empty() && !permissions.group.is_empty());
    }

    #[test]
    fn recall_or_measure_caches_only_lasting_verdicts() {
        let cases = [
            (
                KvmVerdict::Emulated {
                    ns_per_instruction: 950.5,
                },
                1,
            ),
            (KvmVerdict::Busy, 2),
        ];
        for (verdict, expected) in cases {
            let cache = tempfile::tempdir().unwrap();
            let device = tempfile::tempfile().unwrap();
            let mut measured = 0;
            for _ in 0..2 {
                let device = device.try_clone().unwrap();
                let seen = recall_or_measure(device, cache.path(), |_| {
                    measured += 1;
                    verdict.clone()
                });
                assert_eq!(seen, verdict);
            }
            assert_eq!(measured, expected, "{verdict:?}");
        }
    }

    #[test]
    fn recall_or_measure_measures_again_after_changed_permissions() {
        let cache = tempfile::tempdir().unwrap();
        let device = tempfile::tempfile().unwrap();
        let slow = KvmVerdict::Emulated {
            ns_per_instruction: 950.5,
        };
        recall_or_measure(device.try_clone().unwrap(), cache.path(), |_| slow);
        device
            .set_permissions(Permissions::from_mode(0o640))
            .unwrap();
        let again = recall_or_measure(device, cache.path(), |_| KvmVerdict::Busy);
        assert_eq!(again, KvmVerdict::Busy);
    }
}
