//! Sizes that a user gives: processors, memory, disk.

use sandbox_host::hint::Hint;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Why a size was refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SizeError {
    /// Not a number with a unit.
    #[error("`{0}` is not a size")]
    Form(String),
    /// Less than the guest can live with.
    #[error("{what} of {given} is less than the least, {least}")]
    TooSmall {
        /// Memory or disk.
        what: &'static str,
        /// What was asked for.
        given: String,
        /// The limit.
        least: String,
    },
    /// More than any machine that QEMU emulates.
    #[error("{what} of {given} is more than the most, {most}")]
    TooLarge {
        /// Memory, disk or processors.
        what: &'static str,
        /// What was asked for.
        given: String,
        /// The limit.
        most: String,
    },
    /// Not a whole number from 1.
    #[error("`{0}` is not a number of processors")]
    Cpus(String),
    /// Not a whole number from 1.
    #[error("`{0}` is not a number of connections")]
    Connections(String),
}

impl SizeError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<Hint> {
        Some(match self {
            Self::Form(_) => "give a number with a unit, such as `512M`, `2G` or `1T`".into(),
            Self::TooSmall { least, .. } => format!("give at least `{least}`").into(),
            Self::TooLarge { most, .. } => format!("give at most `{most}`").into(),
            Self::Connections(_) => "give a whole number such as `1024`".into(),
            Self::Cpus(_) => "give a whole number such as `2`".into(),
        })
    }
}

/// Bytes of a number with a binary unit: `K`, `M`, `G`, `T`, also as `MiB`
/// and `MB`; without a unit, bytes.
fn parse_bytes(text: &str) -> Result<u64, SizeError> {
    let refused = || SizeError::Form(text.into());
    let digits = text.trim_end_matches(|character: char| character.is_ascii_alphabetic());
    let shift = match text[digits.len()..].to_ascii_uppercase().as_str() {
        "" | "B" => 0,
        "K" | "KB" | "KIB" => 10,
        "M" | "MB" | "MIB" => 20,
        "G" | "GB" | "GIB" => 30,
        "T" | "TB" | "TIB" => 40,
        _ => return Err(refused()),
    };
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(refused());
    }
    let number: u64 = digits.parse().map_err(|_| refused())?;
    number.checked_mul(1 << shift).ok_or_else(refused)
}

/// Bytes with the largest unit that divides them.
pub fn format_bytes(bytes: u64) -> String {
    for (shift, unit) in [(40, "T"), (30, "G"), (20, "M"), (10, "K")] {
        if bytes > 0 && bytes.is_multiple_of(1 << shift) {
            return format!("{}{unit}", bytes >> shift);
        }
    }
    format!("{bytes}B")
}

macro_rules! byte_size {
    ($(#[$documentation:meta])* $name:ident, $what:literal, $least:expr, $most:expr, $step:expr) => {
        $(#[$documentation])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(u64);

        impl $name {
            /// The size in bytes.
            pub fn bytes(self) -> u64 {
                self.0
            }
        }

        impl FromStr for $name {
            type Err = SizeError;

            fn from_str(text: &str) -> Result<Self, SizeError> {
                let bytes = parse_bytes(text)?;
                if bytes < $least {
                    return Err(SizeError::TooSmall {
                        what: $what,
                        given: format_bytes(bytes),
                        least: format_bytes($least),
                    });
                }
                if bytes > $most {
                    return Err(SizeError::TooLarge {
                        what: $what,
                        given: format_bytes(bytes),
                        most: format_bytes($most),
                    });
                }
                Ok(Self(bytes.next_multiple_of($step)))
            }
        }

        impl TryFrom<String> for $name {
            type Error = SizeError;

            fn try_from(text: String) -> Result<Self, SizeError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(size: $name) -> Self {
                size.to_string()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(&format_bytes(self.0))
            }
        }
    };
}

byte_size!(
    /// The guest's memory: 256 MiB, below which systemd does not start, to
    /// 8 TiB; rounded up to whole MiB, QEMU's unit.
    MemorySize, "memory", 256_u64 << 20, 8_u64 << 40, 1 << 20
);

byte_size!(
    /// The guest's disk: 1 GiB to 16 TiB, the most that ext4 with blocks of
    /// 4 KiB holds without its 64-bit feature.
    DiskSize, "a disk", 1_u64 << 30, 16_u64 << 40, 1 << 20
);

byte_size!(
    /// What templates may take of the host's disk: 256 MiB, about one template
    /// of the smallest guest, to 16 TiB.
    TemplateSpace, "space for templates", 256_u64 << 20, 16_u64 << 40, 1
);

byte_size!(
    /// Bytes a second that the guest's network carries, each way: 1 KiB to 1 TiB.
    Bandwidth, "a bandwidth", 1_u64 << 10, 1_u64 << 40, 1
);

/// How many connections the guest may have at once, 1 to 65536.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ConnectionLimit(u32);

impl ConnectionLimit {
    const MOST: u32 = 65_536;

    /// The number.
    pub fn get(self) -> u32 {
        self.0
    }
}

impl Default for ConnectionLimit {
    /// 1024: more than browsers and package managers open at once.
    fn default() -> Self {
        Self(1024)
    }
}

impl FromStr for ConnectionLimit {
    type Err = SizeError;

    fn from_str(text: &str) -> Result<Self, SizeError> {
        match text.parse() {
            Ok(number @ 1..=Self::MOST) => Ok(Self(number)),
            Ok(number) if number > Self::MOST => Err(SizeError::TooLarge {
                what: "a number of connections",
                given: text.into(),
                most: Self::MOST.to_string(),
            }),
            _ => Err(SizeError::Connections(text.into())),
        }
    }
}

impl fmt::Display for ConnectionLimit {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// A number of virtual processors, 1 to 255 (the most of QEMU's `q35` machine
/// without an interrupt-remapping IOMMU).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CpuCount(u32);

impl CpuCount {
    const MOST: u32 = 255;

    /// The number.
    pub fn get(self) -> u32 {
        self.0
    }
}

impl FromStr for CpuCount {
    type Err = SizeError;

    fn from_str(text: &str) -> Result<Self, SizeError> {
        let number: u64 = text.parse().map_err(|_| SizeError::Cpus(text.into()))?;
        match u32::try_from(number) {
            Ok(0) => Err(SizeError::Cpus(text.into())),
            Ok(number) if number <= Self::MOST => Ok(Self(number)),
            _ => Err(SizeError::TooLarge {
                what: "a number of processors",
                given: text.into(),
                most: Self::MOST.to_string(),
            }),
        }
    }
}

impl fmt::Display for CpuCount {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_and_show_with_units() {
        for (text, bytes, shown) in [
            ("2G", 2 << 30, "2G"),
            ("2048M", 2 << 30, "2G"),
            ("1536MiB", 1536 << 20, "1536M"),
            ("1t", 1 << 40, "1T"),
            ("300000000", 287 << 20, "287M"),
        ] {
            let size: MemorySize = text.parse().unwrap();
            assert_eq!((size.bytes(), size.to_string().as_str()), (bytes, shown));
        }
    }

    #[test]
    fn absurd_sizes_are_refused() {
        for text in [
            "",
            "G",
            "-1G",
            "2.5G",
            "2X",
            "99999999999999999999G",
            "1G 2",
            "٣G",
        ] {
            assert!(
                matches!(text.parse::<MemorySize>(), Err(SizeError::Form(_))),
                "{text}"
            );
        }
        assert!(matches!(
            "1M".parse::<MemorySize>(),
            Err(SizeError::TooSmall { .. })
        ));
        assert!(matches!(
            "99999T".parse::<MemorySize>(),
            Err(SizeError::TooLarge { .. })
        ));
        assert!(matches!(
            "1M".parse::<DiskSize>(),
            Err(SizeError::TooSmall { .. })
        ));
        for text in ["0", "-1", "two", "1.5", ""] {
            assert!(
                matches!(text.parse::<CpuCount>(), Err(SizeError::Cpus(_))),
                "{text}"
            );
        }
        assert!(matches!(
            "256".parse::<CpuCount>(),
            Err(SizeError::TooLarge { .. })
        ));
    }
}
