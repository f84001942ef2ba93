//! Checks whether a sandbox of the default size fits into memory.

use std::fs;

use super::Finding;

const CHECK: &str = "memory";
const KIBIBYTES_PER_GIBIBYTE: f64 = (1 << 20) as f64;

/// The default memory of a sandbox (2 GiB) and QEMU's own memory (256 MiB).
const ENOUGH_KIBIBYTES: u64 = (2048 + 256) * 1024;

pub(super) fn check() -> Finding {
    judge(&fs::read_to_string("/proc/meminfo").unwrap_or_default())
}

/// Returns the finding for the content of `/proc/meminfo` (proc_meminfo(5)).
fn judge(meminfo: &str) -> Finding {
    let available = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))
        .and_then(|value| value.trim().strip_suffix(" kB"))
        .and_then(|value| value.parse::<u64>().ok());
    let Some(available) = available else {
        return Finding::ok(CHECK, "unknown: `/proc/meminfo` has no available memory");
    };
    let gibibytes = available as f64 / KIBIBYTES_PER_GIBIBYTE;
    if available < ENOUGH_KIBIBYTES {
        let detail =
            format!("{gibibytes:.1} GiB available: a sandbox of the default size may not fit");
        let fix = "stop other programs, or start sandboxes with less memory, such as 1G";
        Finding::warning(CHECK, detail, Some(fix.into()))
    } else {
        Finding::ok(CHECK, format!("{gibibytes:.1} GiB available"))
    }
}

#[cfg(test)]
mod tests {
    use super::super::Outcome;
    use super::*;

    #[test]
    fn memory_below_default_size_is_a_warning() {
        let cases = [
            (
                "MemTotal: 8000000 kB\nMemAvailable:    4194304 kB\n",
                Outcome::Ok,
                "4.0 GiB",
            ),
            ("MemAvailable: 1048576 kB\n", Outcome::Warning, "1.0 GiB"),
            ("MemTotal: 1048576 kB\n", Outcome::Ok, "unknown"),
        ];
        for (meminfo, outcome, text) in cases {
            let finding = judge(meminfo);
            assert_eq!(finding.outcome, outcome, "{meminfo}");
            assert!(finding.detail.starts_with(text), "{finding:?}");
        }
    }
}
