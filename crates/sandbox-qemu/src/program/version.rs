//! QEMU's version numbers.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The oldest supported QEMU, from December 2022. Debian 12, the oldest supported distribution, has
/// it. It is the first with `-netdev stream` over Unix sockets, which the gateway needs (QEMU
/// `qapi/net.json`, `NetdevStreamOptions`). SMBIOS type 11 strings from files and free-page
/// reporting exist since 5.1.
pub const LEAST_VERSION: QemuVersion = QemuVersion::new(7, 2, 0);

/// A version of QEMU, ordered by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct QemuVersion {
    major: u32,
    minor: u32,
    micro: u32,
}

impl QemuVersion {
    /// Creates the version `major.minor.micro`.
    pub const fn new(major: u32, minor: u32, micro: u32) -> Self {
        Self {
            major,
            minor,
            micro,
        }
    }

    /// Parses the answer to `--version`, such as
    /// `QEMU emulator version 7.2.15 (Debian 1:7.2+dfsg-7+deb12u12)`.
    pub fn parse_answer(answer: &str) -> Option<Self> {
        let version = answer
            .lines()
            .find_map(|line| line.strip_prefix("QEMU emulator version "))?;
        // Candidate and development versions have a suffix: `8.2.0-rc1`, `9.0.50 (v9.0…)`.
        let end = version
            .find(|character: char| !character.is_ascii_digit() && character != '.')
            .unwrap_or(version.len());
        let mut numbers = version[..end].split('.').map(|number| number.parse().ok());
        Some(Self {
            major: numbers.next()??,
            minor: numbers.next()??,
            micro: numbers.next().unwrap_or(Some(0))?,
        })
    }
}

impl fmt::Display for QemuVersion {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{}.{}", self.major, self.minor, self.micro)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parse_answer_reads_versions_of_distributions() {
        let cases = [
            (
                "QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds-2+deb13u1~bpo12+1)\n\
                 Copyright (c) 2003-2025 Fabrice Bellard and the QEMU Project developers\n",
                Some(QemuVersion::new(10, 0, 2)),
            ),
            (
                "QEMU emulator version 8.2.0-rc1\n",
                Some(QemuVersion::new(8, 2, 0)),
            ),
            (
                "QEMU emulator version 9.1 (qemu-9.1)\n",
                Some(QemuVersion::new(9, 1, 0)),
            ),
            (
                "warning: something\nQEMU emulator version 7.2.15 (Debian 1:7.2+dfsg)\n",
                Some(QemuVersion::new(7, 2, 15)),
            ),
            ("QEMU emulator version \n", None),
            ("QEMU emulator version 9\n", None),
            ("QEMU emulator version 9..1\n", None),
            ("qemu-img version 10.0.2\n", None),
            ("", None),
        ];
        for (answer, expected) in cases {
            assert_eq!(QemuVersion::parse_answer(answer), expected, "{answer}");
        }
    }

    #[test]
    fn version_order_is_numeric() {
        assert!(QemuVersion::new(10, 0, 0) > QemuVersion::new(9, 2, 0));
        assert!(QemuVersion::new(7, 1, 9) < LEAST_VERSION);
        assert!(QemuVersion::new(7, 2, 0) >= LEAST_VERSION);
    }
}
