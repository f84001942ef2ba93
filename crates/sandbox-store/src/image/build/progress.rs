//! The progress of a build, read from the output of mmdebstrap and apt.

/// A step of a build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BuildProgress {
    /// This process waits for another one, which builds the same image.
    WaitingForOtherBuild,
    /// apt reads the package lists and resolves dependencies.
    Resolving,
    /// apt downloads packages.
    Downloading {
        /// Size of the packages begun so far, in bytes.
        done_bytes: u64,
        /// Size of all packages known so far, in bytes.
        total_bytes: u64,
    },
    /// dpkg installs packages.
    Installing {
        /// Number of packages set up so far.
        done: usize,
        /// Number of all packages known so far.
        total: usize,
    },
    /// The customize hook copies the recipe's files and runs its script.
    Customizing,
    /// mkfs.ext4 writes the root file system.
    WritingDisk,
    /// debugfs reads kernel and modules from the root file system.
    ReadingKernel,
    /// qemu-img converts the disk to qcow2.
    ConvertingDisk,
    /// The files are moved to the store.
    Storing,
}

/// Reads the progress from the lines of mmdebstrap and of the programs that it runs.
#[derive(Debug, Default)]
pub(super) struct BootstrapFollower {
    downloading: bool,
    done_bytes: u64,
    total_bytes: u64,
    configured: usize,
    packages: usize,
}

impl BootstrapFollower {
    /// Returns the progress that `line` reports, if any.
    pub(super) fn line(&mut self, line: &str) -> Option<BuildProgress> {
        if line.starts_with("I: running apt-get update") {
            return Some(BuildProgress::Resolving);
        }
        if line.starts_with("I: running --customize-hook") {
            return Some(BuildProgress::Customizing);
        }
        if let Some(rest) = line.strip_prefix("Need to get ") {
            // "130 MB of archives.", or "13 MB/130 MB of archives." if apt has some of them.
            let size = rest.split('/').next().unwrap_or(rest);
            self.total_bytes += parse_size(size.trim_end_matches(" of archives."))?;
            self.downloading = true;
            return Some(self.downloading());
        }
        if line.starts_with("Get:") {
            // Before the first "Need to get", apt downloads package lists.
            if !self.downloading {
                return None;
            }
            let (_, size) = line.strip_suffix(']')?.rsplit_once('[')?;
            self.done_bytes = (self.done_bytes + parse_size(size)?).min(self.total_bytes);
            return Some(self.downloading());
        }
        if let Some((_, rest)) = line.split_once(" upgraded, ") {
            let (count, _) = rest.split_once(" newly installed")?;
            self.packages += count.parse::<usize>().ok()?;
            return None;
        }
        if line.starts_with("Setting up ") {
            self.configured = (self.configured + 1).min(self.packages);
            return Some(BuildProgress::Installing {
                done: self.configured,
                total: self.packages,
            });
        }
        None
    }

    fn downloading(&self) -> BuildProgress {
        BuildProgress::Downloading {
            done_bytes: self.done_bytes,
            total_bytes: self.total_bytes,
        }
    }
}

/// Reads a size as apt prints it, in decimal units: `7812 B`, `9678 kB`, `25.4 MB`. Returns bytes.
fn parse_size(text: &str) -> Option<u64> {
    let (number, unit) = text.split_once(' ')?;
    let factor = match unit {
        "B" => 1.0,
        "kB" => 1e3,
        "MB" => 1e6,
        "GB" => 1e9,
        _ => return None,
    };
    let number: f64 = number.replace(',', "").parse().ok()?;
    Some((number * factor) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follower_reads_progress_from_lines() {
        let mut follower = BootstrapFollower::default();
        let downloading = |done_bytes, total_bytes| {
            Some(BuildProgress::Downloading {
                done_bytes,
                total_bytes,
            })
        };
        let installing = |done, total| Some(BuildProgress::Installing { done, total });
        let cases = [
            (
                "I: running apt-get update...",
                Some(BuildProgress::Resolving),
            ),
            (
                "Get:1 http://deb.debian.org/debian trixie InRelease [140 kB]",
                None,
            ),
            ("Fetched 10.2 MB in 1s (11.1 MB/s)", None),
            (
                "0 upgraded, 2 newly installed, 0 to remove and 0 not upgraded.",
                None,
            ),
            (
                "Need to get 25.4 MB of archives.",
                downloading(0, 25_400_000),
            ),
            (
                "Get:1 http://deb.debian.org/debian trixie/main amd64 bash amd64 5.2 [1501 kB]",
                downloading(1_501_000, 25_400_000),
            ),
            (
                "Get:2 http://deb.debian.org/debian trixie/main amd64 libc6 amd64 2.41 [99 MB]",
                downloading(25_400_000, 25_400_000),
            ),
            ("Unpacking bash (5.2) ...", None),
            ("Setting up bash (5.2) ...", installing(1, 2)),
            (
                "0 upgraded, 1 newly installed, 0 to remove and 0 not upgraded.",
                None,
            ),
            (
                "Need to get 7812 B/130 MB of archives.",
                downloading(25_400_000, 25_407_812),
            ),
            ("Setting up libc6 (2.41) ...", installing(2, 3)),
            ("Setting up linux-image-amd64 (6.12) ...", installing(3, 3)),
            ("Setting up once-more (1) ...", installing(3, 3)),
            (
                "I: running --customize-hook directly: /var/tmp/x/assemble /var/tmp/x/root",
                Some(BuildProgress::Customizing),
            ),
            ("", None),
            ("Need to get nothing", None),
            ("Get:9 odd", None),
        ];
        for (line, expected) in cases {
            assert_eq!(follower.line(line), expected, "{line}");
        }
    }

    #[test]
    fn parse_size_uses_decimal_units() {
        for (text, expected) in [
            ("7812 B", Some(7812)),
            ("1,234 kB", Some(1_234_000)),
            ("25.4 MB", Some(25_400_000)),
            ("1.5 GB", Some(1_500_000_000)),
            ("12", None),
            ("x MB", None),
            ("1 MiB", None),
        ] {
            assert_eq!(parse_size(text), expected, "{text}");
        }
    }
}
