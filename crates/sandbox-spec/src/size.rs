//! Sizes and counts that a user gives: memory, disk, processors, bandwidth, connections.

use std::fmt;
use std::str::FromStr;

use sandbox_host::hint::Hint;
use serde::{Deserialize, Serialize};

use crate::text::serde_as_text;

/// Why a size or a count is invalid.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum SizeError {
    /// The text is not a number with a unit, or its bytes exceed 64 bits.
    #[error("invalid {what} `{given}`")]
    Form {
        /// The kind of size.
        what: &'static str,
        /// The text.
        given: String,
    },
    /// The size is below its minimum.
    #[error("invalid {what} `{given}`: the minimum is {minimum}")]
    TooSmall {
        /// The kind of size.
        what: &'static str,
        /// The text.
        given: String,
        /// The minimum, with a unit.
        minimum: String,
    },
    /// The size or the count exceeds its maximum.
    #[error("invalid {what} `{given}`: the maximum is {maximum}")]
    TooLarge {
        /// The kind of size or count.
        what: &'static str,
        /// The text.
        given: String,
        /// The maximum; a size has a unit.
        maximum: String,
    },
    /// The text is not a whole number from 1.
    #[error("invalid {what} `{given}`")]
    Count {
        /// The kind of count.
        what: &'static str,
        /// The text.
        given: String,
        /// A valid count.
        example: &'static str,
    },
}

impl SizeError {
    /// Returns a hint with a valid value.
    pub fn hint(&self) -> Option<Hint> {
        Some(match self {
            Self::Form { .. } => "give a number with a unit, such as `512M`, `2G` or `1T`".into(),
            Self::TooSmall { minimum, .. } => format!("give at least `{minimum}`").into(),
            Self::TooLarge { maximum, .. } => format!("give at most `{maximum}`").into(),
            Self::Count { example, .. } => {
                format!("give a whole number, such as `{example}`").into()
            }
        })
    }
}

/// A kind of size: its name in errors and its bounds, in bytes.
struct Kind {
    name: &'static str,
    minimum: u64,
    /// The maximum that holds on every host.
    maximum: Option<u64>,
    /// The unit to which a size is rounded up.
    step: u64,
}

impl Kind {
    /// Parses a size of this kind and returns its bytes.
    fn parse(&self, text: &str) -> Result<u64, SizeError> {
        let (what, given) = (self.name, || text.to_owned());
        let form = || SizeError::Form {
            what,
            given: given(),
        };
        let bytes = parse_bytes(text).ok_or_else(form)?;
        if bytes < self.minimum {
            return Err(SizeError::TooSmall {
                what,
                given: given(),
                minimum: format_bytes(self.minimum),
            });
        }
        match self.maximum {
            Some(maximum) if bytes > maximum => Err(SizeError::TooLarge {
                what,
                given: given(),
                maximum: format_bytes(maximum),
            }),
            _ => bytes.checked_next_multiple_of(self.step).ok_or_else(form),
        }
    }
}

/// Parses a whole number with a binary unit (`K`, `M`, `G`, `T`, `P`, or `MiB`, `MB`), or of bytes.
fn parse_bytes(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|character: char| character.is_ascii_alphabetic());
    let shift = match text[digits.len()..].to_ascii_uppercase().as_str() {
        "" | "B" => 0,
        "K" | "KB" | "KIB" => 10,
        "M" | "MB" | "MIB" => 20,
        "G" | "GB" | "GIB" => 30,
        "T" | "TB" | "TIB" => 40,
        "P" | "PB" | "PIB" => 50,
        _ => return None,
    };
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    number.checked_mul(1 << shift)
}

/// Formats bytes as a whole number of the largest unit that divides them: `2G`, `1536M`.
pub fn format_bytes(bytes: u64) -> String {
    for (shift, unit) in [(50, "P"), (40, "T"), (30, "G"), (20, "M"), (10, "K")] {
        if bytes > 0 && bytes.is_multiple_of(1 << shift) {
            return format!("{}{unit}", bytes >> shift);
        }
    }
    format!("{bytes}B")
}

macro_rules! byte_size {
    ($(#[$documentation:meta])* $name:ident, $kind:expr) => {
        $(#[$documentation])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub struct $name(u64);

        impl $name {
            /// Returns the size in bytes.
            pub fn bytes(self) -> u64 {
                self.0
            }
        }

        impl FromStr for $name {
            type Err = SizeError;

            fn from_str(text: &str) -> Result<Self, SizeError> {
                const KIND: Kind = $kind;
                KIND.parse(text).map(Self)
            }
        }

        serde_as_text!($name);

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(&format_bytes(self.0))
            }
        }
    };
}

byte_size!(
    /// The guest's memory, at least 256 MiB, below which systemd does not start. It is rounded up
    /// to whole MiB, QEMU's unit.
    ///
    /// Any larger size parses, so that an error can name the memory of the host.
    MemorySize,
    Kind {
        name: MEMORY,
        minimum: 256 << 20,
        maximum: None,
        step: 1 << 20,
    }
);

byte_size!(
    /// The guest's disk: 1 GiB to 16 TiB, the maximum of ext4 with blocks of 4 KiB and without its
    /// 64-bit feature. It is rounded up to whole MiB.
    DiskSize,
    Kind {
        name: "disk size",
        minimum: 1 << 30,
        maximum: Some(16 << 40),
        step: 1 << 20,
    }
);

byte_size!(
    /// The disk space that templates can use: 256 MiB, about one template of the smallest guest, to
    /// 16 TiB.
    TemplateSpace,
    Kind {
        name: "template space",
        minimum: 256 << 20,
        maximum: Some(16 << 40),
        step: 1,
    }
);

byte_size!(
    /// The bytes per second of the guest's network, each way: 1 KiB to 1 TiB.
    Bandwidth,
    Kind {
        name: "bandwidth",
        minimum: 1 << 10,
        maximum: Some(1 << 40),
        step: 1,
    }
);

const MEMORY: &str = "memory size";
const CPUS: &str = "processor count";

impl MemorySize {
    /// The maximum on any host, 8 TiB.
    pub const MAXIMUM: Self = Self(8 << 40);

    /// Checks the size against [`MemorySize::MAXIMUM`].
    ///
    /// # Errors
    /// [`SizeError::TooLarge`].
    pub fn check_maximum(self) -> Result<(), SizeError> {
        check_maximum(MEMORY, self, Self::MAXIMUM)
    }
}

fn check_maximum<T: PartialOrd + fmt::Display>(
    what: &'static str,
    given: T,
    maximum: T,
) -> Result<(), SizeError> {
    if given <= maximum {
        return Ok(());
    }
    Err(SizeError::TooLarge {
        what,
        given: given.to_string(),
        maximum: maximum.to_string(),
    })
}

/// Parses a count from 1. Larger counts than 32 bits are [`SizeError::Count`].
fn parse_count(what: &'static str, text: &str, example: &'static str) -> Result<u32, SizeError> {
    match text.parse() {
        Ok(count) if count > 0 => Ok(count),
        _ => Err(SizeError::Count {
            what,
            given: text.into(),
            example,
        }),
    }
}

/// The maximum number of simultaneous connections of the guest, 1 to 65536.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ConnectionLimit(u32);

impl ConnectionLimit {
    const MAXIMUM: Self = Self(65_536);

    /// Returns the number.
    pub fn get(self) -> u32 {
        self.0
    }
}

impl Default for ConnectionLimit {
    /// Returns 1024: more than browsers and package managers open at once.
    fn default() -> Self {
        Self(1024)
    }
}

impl FromStr for ConnectionLimit {
    type Err = SizeError;

    fn from_str(text: &str) -> Result<Self, SizeError> {
        const WHAT: &str = "connection limit";
        let limit = Self(parse_count(WHAT, text, "1024")?);
        check_maximum(WHAT, limit, Self::MAXIMUM)?;
        Ok(limit)
    }
}

impl fmt::Display for ConnectionLimit {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// The number of the guest's processors, at least 1.
///
/// Any larger number parses, so that an error can name the processors of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CpuCount(u32);

impl CpuCount {
    /// The maximum on any host, 255, is the limit of QEMU's `q35` machine without an
    /// interrupt-remapping IOMMU.
    pub const MAXIMUM: Self = Self(255);

    /// Returns the number.
    pub fn get(self) -> u32 {
        self.0
    }

    /// Checks the number against [`CpuCount::MAXIMUM`].
    ///
    /// # Errors
    /// [`SizeError::TooLarge`].
    pub fn check_maximum(self) -> Result<(), SizeError> {
        check_maximum(CPUS, self, Self::MAXIMUM)
    }
}

impl FromStr for CpuCount {
    type Err = SizeError;

    fn from_str(text: &str) -> Result<Self, SizeError> {
        parse_count(CPUS, text, "2").map(Self)
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

    fn error<T: FromStr<Err = SizeError> + fmt::Debug>(text: &str) -> SizeError {
        text.parse::<T>().unwrap_err()
    }

    #[test]
    fn memory_size_with_unit_parses_and_displays() {
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
    fn memory_size_without_form_is_refused() {
        for text in [
            "",
            "G",
            "-1G",
            "2.5G",
            "2X",
            "99999999999999999999G",
            "18446744073709551615",
            "1G 2",
            "٣G",
        ] {
            let error = error::<MemorySize>(text);
            assert_eq!(error.to_string(), format!("invalid memory size `{text}`"));
            assert!(matches!(error, SizeError::Form { .. }), "{text}");
        }
    }

    #[test]
    fn size_beyond_its_bounds_is_refused() {
        for (error, expected) in [
            (
                error::<MemorySize>("1M"),
                "invalid memory size `1M`: the minimum is 256M",
            ),
            (
                error::<DiskSize>("1M"),
                "invalid disk size `1M`: the minimum is 1G",
            ),
            (
                error::<DiskSize>("999P"),
                "invalid disk size `999P`: the maximum is 16T",
            ),
            (
                error::<ConnectionLimit>("65537"),
                "invalid connection limit `65537`: the maximum is 65536",
            ),
        ] {
            assert_eq!(error.to_string(), expected);
        }
    }

    #[test]
    fn memory_and_processors_beyond_any_host_parse_and_fail_the_check() {
        let memory: MemorySize = "99T".parse().unwrap();
        assert_eq!(
            memory.check_maximum().unwrap_err().to_string(),
            "invalid memory size `99T`: the maximum is 8T"
        );
        assert_eq!(MemorySize::MAXIMUM.check_maximum(), Ok(()));
        let cpus: CpuCount = "999".parse().unwrap();
        assert_eq!(
            cpus.check_maximum().unwrap_err().to_string(),
            "invalid processor count `999`: the maximum is 255"
        );
        assert_eq!(CpuCount::MAXIMUM.check_maximum(), Ok(()));
    }

    #[test]
    fn processor_count_without_form_is_refused() {
        for text in ["0", "-1", "two", "1.5", "", "99999999999"] {
            assert!(
                matches!(error::<CpuCount>(text), SizeError::Count { .. }),
                "{text}"
            );
        }
    }
}
