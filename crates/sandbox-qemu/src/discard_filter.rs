//! A seccomp filter that protects a template from the free memory of its guests.
//!
//! The guest's memory is a private mapping of the template's file. When the guest reports free
//! pages (virtio-balloon), QEMU first punches a hole into the file and then drops its own pages
//! (`ram_block_discard_range`, system/physmem.c). The second step returns memory to the host. The
//! first one would take the memory of every other guest of that template, as QEMU itself warns.
//! QEMU has no option to omit only the first step: for a file that it may not write to, it omits
//! both.
//!
//! So the filter answers such a `fallocate` with success and does nothing. The offset distinguishes
//! it from a call for a disk: a template's memory begins at [`MEMORY_OFFSET`]. QEMU before 9.1
//! forgets to add the offset, and so punches into the hole before the memory.

use std::collections::BTreeMap;
use std::io;

use nix::libc;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};

use super::argv::MEMORY_OFFSET;

/// `FALLOC_FL_PUNCH_HOLE` (linux/falloc.h).
const PUNCH_HOLE: u64 = 2;

/// The filter could not be built, since this processor is not supported.
#[derive(Debug, thiserror::Error)]
#[error("could not build the seccomp filter that protects templates")]
pub struct FilterError(#[from] seccompiler::BackendError);

/// A filter for a QEMU that runs a restored guest.
#[derive(Debug, Clone)]
pub struct DiscardFilter(BpfProgram);

impl DiscardFilter {
    /// Builds the filter.
    ///
    /// # Errors
    ///
    /// If seccomp filters for this processor are not supported.
    pub fn new() -> Result<Self, FilterError> {
        // fallocate(fd, mode, offset, length): arguments count from zero.
        let rule = SeccompRule::new(vec![
            SeccompCondition::new(
                1,
                SeccompCmpArgLen::Dword,
                SeccompCmpOp::MaskedEq(PUNCH_HOLE),
                PUNCH_HOLE,
            )?,
            SeccompCondition::new(2, SeccompCmpArgLen::Qword, SeccompCmpOp::Ge, MEMORY_OFFSET)?,
        ])?;
        let filter = SeccompFilter::new(
            BTreeMap::from([(libc::SYS_fallocate, vec![rule])]),
            SeccompAction::Allow,
            // The error number 0 means success.
            SeccompAction::Errno(0),
            std::env::consts::ARCH.try_into()?,
        )?;
        Ok(Self(filter.try_into()?))
    }

    /// Installs the filter on this thread and its future children. Allocates nothing, so it may be
    /// called between fork and exec.
    ///
    /// # Errors
    ///
    /// If the kernel refuses the filter.
    pub fn install(&self) -> io::Result<()> {
        seccompiler::apply_filter(&self.0).map_err(|error| match error {
            seccompiler::Error::Prctl(cause) | seccompiler::Error::Seccomp(cause) => cause,
            _ => io::ErrorKind::InvalidInput.into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::MetadataExt;

    use nix::fcntl::{FallocateFlags, fallocate};

    use super::*;

    /// Writes 1 MiB at `offset` of a file, and punches out its first half under the filter. Returns
    /// the file's blocks before and after that. The filter stays on a thread that ends.
    fn blocks_after_punching(offset: u64) -> (u64, u64) {
        let file = tempfile::tempfile().unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, &[1; 1 << 20], offset).unwrap();
        let before = file.metadata().unwrap().blocks();
        let punch = move |file: &File| {
            DiscardFilter::new().unwrap().install().unwrap();
            fallocate(
                file,
                FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE,
                i64::try_from(offset).unwrap(),
                1 << 19,
            )
            .unwrap();
            file.metadata().unwrap().blocks()
        };
        let after = std::thread::scope(|scope| scope.spawn(|| punch(&file)).join().unwrap());
        (before, after)
    }

    #[test]
    fn filter_skips_holes_in_templates_but_not_in_disks() {
        let (before, after) = blocks_after_punching(0);
        assert!(after < before);
        let (before, after) = blocks_after_punching(MEMORY_OFFSET);
        assert_eq!(after, before);
    }
}
