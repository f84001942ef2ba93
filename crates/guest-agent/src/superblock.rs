//! The size fields of an ext4 superblock (kernel documentation,
//! `filesystems/ext4/super.rst`). All numbers are little endian.

/// The offset of the superblock on the device, in bytes.
pub(crate) const OFFSET: u64 = 1024;

/// The length of the superblock in bytes.
pub(crate) const LENGTH: usize = 1024;

const BLOCK_COUNT_LOW: usize = 0x4;
const LOG_BLOCK_SIZE: usize = 0x18;
const MAGIC: usize = 0x38;
const FEATURE_INCOMPATIBLE: usize = 0x60;
const BLOCK_COUNT_HIGH: usize = 0x150;

/// `EXT4_SUPER_MAGIC`.
const MAGIC_VALUE: u16 = 0xef53;

/// `EXT4_FEATURE_INCOMPAT_64BIT`: the high half of the block count is valid.
const FEATURE_64_BIT: u32 = 0x80;

/// The size of a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size {
    /// The size of a block in bytes.
    pub(crate) block_size: u64,
    pub(crate) block_count: u64,
}

impl Size {
    /// Parses a superblock. Returns `None` if it is not an ext4 superblock.
    pub(crate) fn parse(superblock: &[u8; LENGTH]) -> Option<Self> {
        let half = |offset: usize| u16::from_le_bytes([superblock[offset], superblock[offset + 1]]);
        let word = |offset: usize| u32::from(half(offset)) | u32::from(half(offset + 2)) << 16;
        if half(MAGIC) != MAGIC_VALUE {
            return None;
        }
        let high = if word(FEATURE_INCOMPATIBLE) & FEATURE_64_BIT == 0 {
            0
        } else {
            word(BLOCK_COUNT_HIGH)
        };
        Some(Self {
            block_size: 1024_u64.checked_shl(word(LOG_BLOCK_SIZE))?,
            block_count: u64::from(high) << 32 | u64::from(word(BLOCK_COUNT_LOW)),
        })
    }

    /// Returns the number of blocks that fit on a device of `device_bytes`, if
    /// that is more than the file system has.
    pub(crate) fn grow_target(self, device_bytes: u64) -> Option<u64> {
        let block_count = device_bytes / self.block_size;
        (block_count > self.block_count).then_some(block_count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn superblock(count_low: u32, count_high: u32, features: u32) -> [u8; LENGTH] {
        let mut block = [0; LENGTH];
        block[0x4..0x8].copy_from_slice(&count_low.to_le_bytes());
        block[0x18] = 2;
        block[0x38..0x3a].copy_from_slice(&[0x53, 0xef]);
        block[0x60..0x64].copy_from_slice(&features.to_le_bytes());
        block[0x150..0x154].copy_from_slice(&count_high.to_le_bytes());
        block
    }

    #[test]
    fn parse_reads_the_high_half_only_with_the_64_bit_feature() {
        let parse = |low, high, features| Size::parse(&superblock(low, high, features));
        let size = |block_count| {
            Some(Size {
                block_size: 4096,
                block_count,
            })
        };
        assert_eq!(parse(7, 1, 0), size(7));
        assert_eq!(parse(7, 1, FEATURE_64_BIT), size((1 << 32) + 7));
        assert_eq!(Size::parse(&[0; LENGTH]), None);
    }

    #[test]
    fn grow_target_is_none_for_a_device_without_more_blocks() {
        let size = Size {
            block_size: 4096,
            block_count: 10,
        };
        assert_eq!(size.grow_target(10 * 4096 + 4095), None);
        assert_eq!(size.grow_target(9 * 4096), None);
        assert_eq!(size.grow_target(11 * 4096), Some(11));
    }
}
