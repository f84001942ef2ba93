//! The guest's state: load, memory, disk and addresses.

use std::{fs, io};

use sandbox_protocol::agent::message::Status;

use crate::network::{self, NetworkError};

/// A part of the state that could not be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StatusError {
    #[error("could not read `{path}`")]
    Read {
        path: &'static str,
        source: io::Error,
    },
    #[error("invalid content of `{path}`")]
    Form { path: &'static str },
    #[error("could not read the size of the root file system")]
    Disk { source: io::Error },
    #[error(transparent)]
    Network(#[from] NetworkError),
}

const UPTIME: &str = "/proc/uptime";
const LOAD: &str = "/proc/loadavg";
const MEMORY: &str = "/proc/meminfo";

/// Reads the state from the kernel.
pub(crate) fn read() -> Result<Status, StatusError> {
    let disk = rustix::fs::statvfs("/").map_err(|source| StatusError::Disk {
        source: source.into(),
    })?;
    let memory = read_file(MEMORY)?;
    let memory_of = |key| memory_bytes(&memory, key).ok_or(StatusError::Form { path: MEMORY });
    Ok(Status {
        kernel: rustix::system::uname()
            .release()
            .to_string_lossy()
            .into_owned(),
        uptime_s: uptime(&read_file(UPTIME)?).ok_or(StatusError::Form { path: UPTIME })?,
        load_percent: load(&read_file(LOAD)?).ok_or(StatusError::Form { path: LOAD })?,
        memory_total: memory_of("MemTotal")?,
        memory_available: memory_of("MemAvailable")?,
        disk_total: disk.f_blocks * disk.f_frsize,
        disk_available: disk.f_bavail * disk.f_frsize,
        addresses: network::addresses()?,
    })
}

fn read_file(path: &'static str) -> Result<String, StatusError> {
    fs::read_to_string(path).map_err(|source| StatusError::Read { path, source })
}

/// Parses `SECONDS.HUNDREDTHS IDLE` (proc_uptime(5)).
fn uptime(text: &str) -> Option<u64> {
    text.split('.').next()?.parse().ok()
}

/// Parses three averages with two decimals, and ignores the rest
/// (proc_loadavg(5)).
fn load(text: &str) -> Option<[u32; 3]> {
    let mut averages = text.split_ascii_whitespace().map(|average| {
        let (whole, hundredths) = average.split_once('.')?;
        let hundredths = (hundredths.len() == 2).then_some(hundredths)?;
        let whole: u32 = whole.parse().ok()?;
        whole
            .checked_mul(100)?
            .checked_add(hundredths.parse().ok()?)
    });
    let mut next = || averages.next()?;
    Some([next()?, next()?, next()?])
}

/// Returns the value of a line `KEY:   NUMBER kB` in bytes (proc_meminfo(5)).
fn memory_bytes(text: &str, key: &str) -> Option<u64> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parsers_read_the_format_of_the_kernel() {
        assert_eq!(uptime("12345.67 2345.00\n"), Some(12345));
        assert_eq!(load("0.07 1.50 12.00 1/234 5678\n"), Some([7, 150, 1200]));
        let memory = "MemTotal:        2030612 kB\nMemFree: 1 kB\nMemTotalled: 7 kB\n";
        assert_eq!(memory_bytes(memory, "MemTotal"), Some(2_030_612 << 10));
        assert_eq!(memory_bytes(memory, "MemFree"), Some(1024));
    }

    #[test]
    fn parsers_return_none_for_other_text() {
        assert_eq!(uptime(""), None);
        for text in [
            "",
            "0.07 1.50",
            "0.1 0.2 0.3",
            "a.00 0.00 0.00",
            "9999999999.00 0.00 0.00",
        ] {
            assert_eq!(load(text), None, "{text}");
        }
        for text in ["", "MemTotal: x kB", "MemTotal: 5", "MemTotal 5 kB"] {
            assert_eq!(memory_bytes(text, "MemTotal"), None, "{text}");
        }
    }

    #[test]
    fn read_returns_the_state_of_this_machine() {
        let status = read().unwrap();
        assert!(status.memory_available <= status.memory_total);
        assert!(status.disk_available <= status.disk_total);
        assert!(!status.kernel.is_empty());
    }
}
