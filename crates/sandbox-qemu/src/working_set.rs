//! The working set of a template: the pages of memory that a start touches.
//!
//! KVM maps a page of a restored guest at its first touch, by an exit of the processor for each 4
//! KiB. A start touches thousands. They are nearly the same in each start, since each begins in the
//! same state. So a trial start records them, and later starts map them in bulk before the guest
//! runs:
//!
//! - The pages that the trial wrote to become the sandbox's own, as the guest would make them.
//! - KVM maps them and the pages that the trial only read (`KVM_PRE_FAULT_MEMORY`, Linux 6.11,
//!   `Documentation/virt/kvm/api.rst`). Only a thread of QEMU may ask for that, and QEMU has no
//!   command for it, so a stopped thread is made to ask.
//!
//! All of it only saves time, so a start continues where it fails.

use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use nix::libc;
use nix::sys::uio::{RemoteIoVec, process_vm_readv, process_vm_writev};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use crate::arch::{self, StoppedThread};
use crate::argv::MEMORY_OFFSET;

/// The size of a page, in bytes.
const PAGE: u64 = 4096;

/// Two ranges with at most this many pages between them are mapped as one: a request costs more
/// than mapping these pages. Only pages that are read fill gaps, so no memory is used for them.
const GAP_PAGES: u64 = 32;

/// The size of an entry of `/proc/PID/pagemap`, in bytes.
const ENTRY: usize = 8;

/// The number of pages whose entries are read at once: 1 MiB of entries.
const CHUNK_PAGES: usize = 1 << 17;

/// The number of pages of one request to read or write another process's memory, at most
/// `UIO_MAXIOV` of Linux.
const BATCH: usize = 1024;

/// The request `KVM_PRE_FAULT_MEMORY` of a processor (Linux `include/uapi/linux/kvm.h`).
const PRE_FAULT_MEMORY: u64 =
    nix::request_code_readwrite!(0xae, 0xd5, std::mem::size_of::<[u64; 8]>()) as u64;

/// Pages, counted from the begin of the guest's memory: the first and the number of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pages(u64, u64);

impl Pages {
    fn range(self) -> Range<u64> {
        self.0..self.0.saturating_add(self.1)
    }
}

/// The pages that a start touches.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkingSet {
    /// Only read. Sorted, without overlaps.
    pub read: Vec<Pages>,
    /// Written to. Sorted, without overlaps.
    pub written: Vec<Pages>,
}

/// The memory of a restored guest in QEMU's process.
#[derive(Debug, Clone, Copy)]
pub struct Memory<'a> {
    /// QEMU's process.
    pub qemu: i32,
    /// The template's file.
    pub file: &'a Path,
}

/// A part of the guest's memory in QEMU's address space.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Mapping {
    pages: Range<u64>,
    /// The address of the first page.
    address: u64,
}

impl WorkingSet {
    /// The maximum length of the JSON form, in bytes: 100,000 ranges.
    pub const FILE_LIMIT: u64 = 2 << 20;

    /// Parses the JSON form of the working set of a guest with `memory_bytes` of memory.
    ///
    /// # Errors
    ///
    /// If it is not the JSON form of a working set, or names pages that such a guest lacks.
    pub fn parse(json: &[u8], memory_bytes: u64) -> io::Result<Self> {
        let set: Self = serde_json::from_slice(json)?;
        let mut end = 0;
        for list in [&set.read, &set.written] {
            let mut next = 0;
            for range in list.iter().map(|pages| pages.range()) {
                if range.start < next {
                    return Err(io::Error::other("the pages are not sorted"));
                }
                next = range.end;
            }
            end = end.max(next);
        }
        if end <= memory_bytes / PAGE {
            Ok(set)
        } else {
            Err(io::Error::other("a page number is too large"))
        }
    }

    /// Returns the pages that QEMU's process has touched. With those that were read, the kernel
    /// maps up to 15 neighbours, which count as read.
    ///
    /// # Errors
    ///
    /// If the state of QEMU's memory cannot be read.
    pub fn observe(memory: &Memory<'_>) -> io::Result<Self> {
        let page_map = File::open(format!("/proc/{}/pagemap", memory.qemu))?;
        let mut set = Self::default();
        for mapping in memory.mappings()? {
            let mut entries = vec![0; CHUNK_PAGES * ENTRY];
            for first in mapping.pages.clone().step_by(CHUNK_PAGES) {
                let chunk = first..mapping.pages.end.min(first + CHUNK_PAGES as u64);
                let entries = &mut entries[..(chunk.end - chunk.start) as usize * ENTRY];
                let number = (mapping.address / PAGE) + (first - mapping.pages.start);
                page_map.read_exact_at(entries, number * ENTRY as u64)?;
                for (page, entry) in chunk.zip(entries.as_chunks().0) {
                    match Touch::of(u64::from_ne_bytes(*entry)) {
                        Some(Touch::Read) => push(&mut set.read, page),
                        Some(Touch::Written) => push(&mut set.written, page),
                        None => {}
                    }
                }
            }
        }
        Ok(set)
    }

    /// Returns the pages of both sets; written only if both say so, so that no start writes to more
    /// than the guest would.
    #[must_use]
    pub fn intersect(&self, other: &Self) -> Self {
        let written = common(&self.written, &other.written);
        let mine = union(&self.read, &self.written);
        let touched = common(&mine, &union(&other.read, &other.written));
        Self {
            read: without(&touched, &written),
            written,
        }
    }

    /// Maps the pages. The guest, which has memory of `memory_bytes`, must be paused. `processor`
    /// is the thread of one of its processors.
    ///
    /// # Errors
    ///
    /// If the kernel of the host cannot do it or forbids it.
    pub fn map(&self, memory: &Memory<'_>, processor: i32, memory_bytes: u64) -> io::Result<()> {
        let mut thread = StoppedThread::stop(processor)?;
        let processor = processor_descriptor(memory.qemu)?;
        // KVM maps a page of the process's own as writable.
        memory.write_to(&self.written)?;
        for range in merge(&union(&self.read, &self.written)) {
            for addresses in
                arch::guest_addresses(range.start * PAGE..range.end * PAGE, memory_bytes)
            {
                pre_fault(&mut thread, processor, addresses)?;
            }
        }
        Ok(())
    }
}

/// Makes KVM map these guest-physical addresses.
fn pre_fault(thread: &mut StoppedThread, processor: u64, addresses: Range<u64>) -> io::Result<()> {
    // struct kvm_pre_fault_memory: gpa, size, flags, padding.
    let mut request = [0; 64];
    request[..8].copy_from_slice(&addresses.start.to_ne_bytes());
    request[8..16].copy_from_slice(&(addresses.end - addresses.start).to_ne_bytes());
    loop {
        thread.call_with(libc::SYS_ioctl, [processor, PRE_FAULT_MEMORY], &mut request)?;
        // The kernel may have been interrupted. It leaves the rest.
        if request[8..16] == [0; 8] {
            return Ok(());
        }
    }
}

/// Returns QEMU's descriptor of a processor.
fn processor_descriptor(qemu: i32) -> io::Result<u64> {
    for entry in fs::read_dir(format!("/proc/{qemu}/fd"))? {
        let entry = entry?;
        let target = fs::read_link(entry.path()).unwrap_or_default();
        let is_processor = target.to_string_lossy().starts_with("anon_inode:kvm-vcpu");
        if let (true, Some(Ok(number))) = (is_processor, entry.file_name().to_str().map(str::parse))
        {
            return Ok(number);
        }
    }
    Err(io::Error::other("QEMU has no processor of KVM"))
}

impl Memory<'_> {
    /// Makes pages the process's own: writes to each what it contains.
    fn write_to(&self, pages: &[Pages]) -> io::Result<()> {
        let mappings = self.mappings()?;
        let addresses: Vec<u64> = pages
            .iter()
            .flat_map(|pages| pages.range())
            .filter_map(|page| address(&mappings, page))
            .collect();
        let qemu = Pid::from_raw(self.qemu);
        for batch in addresses.chunks(BATCH) {
            let remote: Vec<RemoteIoVec> = batch
                .iter()
                .map(|address| RemoteIoVec {
                    base: *address as usize,
                    len: 1,
                })
                .collect();
            let mut bytes = vec![0; batch.len()];
            let read = process_vm_readv(qemu, &mut [io::IoSliceMut::new(&mut bytes)], &remote)?;
            let written = process_vm_writev(qemu, &[io::IoSlice::new(&bytes[..read])], &remote)?;
            if written < batch.len() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(())
    }

    fn mappings(&self) -> io::Result<Vec<Mapping>> {
        let inode = fs::metadata(self.file)?.ino();
        let maps = fs::read_to_string(format!("/proc/{}/maps", self.qemu))?;
        Ok(parse_mappings(&maps, inode))
    }
}

/// Parses the lines of `/proc/PID/maps` (proc_pid_maps(5)) that map the guest's memory from the
/// file with this inode.
fn parse_mappings(maps: &str, inode: u64) -> Vec<Mapping> {
    let parse = |line: &str| {
        let mut fields = line.split_ascii_whitespace();
        let (begin, end) = fields.next()?.split_once('-')?;
        let offset = u64::from_str_radix(fields.nth(1)?, 16).ok()?;
        let own_inode: u64 = fields.nth(1)?.parse().ok()?;
        let first = offset.checked_sub(MEMORY_OFFSET)? / PAGE;
        let address = u64::from_str_radix(begin, 16).ok()?;
        let length = u64::from_str_radix(end, 16).ok()?.checked_sub(address)?;
        (own_inode == inode).then_some(Mapping {
            pages: first..first + length / PAGE,
            address,
        })
    };
    maps.lines().filter_map(parse).collect()
}

fn address(mappings: &[Mapping], page: u64) -> Option<u64> {
    let mapping = mappings
        .iter()
        .find(|mapping| mapping.pages.contains(&page))?;
    Some(mapping.address + (page - mapping.pages.start) * PAGE)
}

/// How a page was touched.
#[derive(Debug, PartialEq, Eq)]
enum Touch {
    Read,
    Written,
}

impl Touch {
    /// Interprets an entry of `/proc/PID/pagemap` (proc_pid_pagemap(5)).
    fn of(entry: u64) -> Option<Self> {
        const PRESENT: u64 = 1 << 63;
        const SWAPPED: u64 = 1 << 62;
        const OF_FILE: u64 = 1 << 61;
        if entry & SWAPPED != 0 {
            // Pages of the file are not swapped.
            return Some(Self::Written);
        }
        (entry & PRESENT != 0).then_some(match entry & OF_FILE {
            0 => Self::Written,
            _ => Self::Read,
        })
    }
}

/// Adds a page after those in `all`.
fn push(all: &mut Vec<Pages>, page: u64) {
    match all.last_mut() {
        Some(last) if last.range().end == page => last.1 += 1,
        _ => all.push(Pages(page, 1)),
    }
}

fn each(all: &[Pages]) -> impl Iterator<Item = u64> {
    all.iter().flat_map(|pages| pages.range())
}

fn collect(pages: impl IntoIterator<Item = u64>) -> Vec<Pages> {
    let mut all = Vec::new();
    for page in pages {
        push(&mut all, page);
    }
    all
}

fn common(left: &[Pages], right: &[Pages]) -> Vec<Pages> {
    let right: std::collections::BTreeSet<u64> = each(right).collect();
    collect(each(left).filter(|page| right.contains(page)))
}

fn without(left: &[Pages], right: &[Pages]) -> Vec<Pages> {
    let right: std::collections::BTreeSet<u64> = each(right).collect();
    collect(each(left).filter(|page| !right.contains(page)))
}

fn union(left: &[Pages], right: &[Pages]) -> Vec<Pages> {
    let all: std::collections::BTreeSet<u64> = each(left).chain(each(right)).collect();
    collect(all)
}

/// Returns sorted ranges of pages, with small gaps filled.
fn merge(all: &[Pages]) -> Vec<Range<u64>> {
    let mut merged: Vec<Range<u64>> = Vec::new();
    for pages in all.iter().map(|pages| pages.range()) {
        match merged.last_mut() {
            Some(last) if pages.start <= last.end + GAP_PAGES => last.end = pages.end,
            _ => merged.push(pages),
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;
    use std::os::fd::AsFd;

    use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

    use super::*;

    fn set(read: &[(u64, u64)], written: &[(u64, u64)]) -> WorkingSet {
        let pages = |pairs: &[(u64, u64)]| pairs.iter().map(|pair| Pages(pair.0, pair.1)).collect();
        WorkingSet {
            read: pages(read),
            written: pages(written),
        }
    }

    #[test]
    fn intersect_keeps_common_pages_and_those_that_both_write_to() {
        let first = set(&[(0, 4), (8, 1)], &[(4, 2)]);
        let second = set(&[(1, 4)], &[(5, 4)]);
        assert_eq!(first.intersect(&second), set(&[(1, 4), (8, 1)], &[(5, 1)]));
    }

    #[test]
    fn merge_fills_small_gaps_only() {
        let pages = [Pages(0, 1), Pages(1 + GAP_PAGES, 1), Pages(1000, 2)];
        assert_eq!(merge(&pages), [0..GAP_PAGES + 2, 1000..1002]);
        assert_eq!(merge(&[]), []);
    }

    #[test]
    fn parse_reads_its_json_and_refuses_large_numbers() {
        let original = set(&[(3, 2)], &[(9, 1)]);
        let json = serde_json::to_vec(&original).unwrap();
        assert_eq!(json, br#"{"read":[[3,2]],"written":[[9,1]]}"#);
        assert_eq!(WorkingSet::parse(&json, 10 * PAGE).unwrap(), original);
        for damaged in [
            "",
            "null",
            r#"{"read":[[3,2]]}"#,
            r#"{"read":[[3,8]],"written":[]}"#,
            r#"{"read":[],"written":[[0,11]]}"#,
            r#"{"read":[[3,2],[4,1]],"written":[]}"#,
            r#"{"read":[[3,4294967296]],"written":[]}"#,
            r#"{"read":[[18446744073709551615,1]],"written":[]}"#,
            r#"{"read":[[-1,1]],"written":[]}"#,
        ] {
            WorkingSet::parse(damaged.as_bytes(), 10 * PAGE).unwrap_err();
        }
    }

    #[test]
    fn parse_mappings_finds_parts_of_the_memory() {
        let maps = "\
7f0000000000-7f0000002000 rw-p 10000000000 fe:00 77    /t/ram
7f0000002000-7f0000004000 rw-p 10000002000 fe:00 77    /t/ram
7f0000010000-7f0000012000 rw-p 10000000000 fe:00 78    /t/other
7f0000020000-7f0000022000 r--p 00000000 fe:00 77       /t/ram
7f0000030000-7f0000032000 rw-p 00000000 00:00 0
";
        let expected = [(0..2, 0x7f00_0000_0000), (2..4, 0x7f00_0000_2000)];
        let expected = expected.map(|(pages, address)| Mapping { pages, address });
        assert_eq!(parse_mappings(maps, 77), expected);
    }

    /// This process maps a file as QEMU maps a template.
    #[test]
    fn observe_tells_read_pages_from_written_ones() {
        const PAGES: usize = 64;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ram");
        let file = File::create_new(&path).unwrap();
        let length = PAGES * PAGE as usize;
        file.write_all_at(&vec![7; length], MEMORY_OFFSET).unwrap();
        let file = File::open(&path).unwrap();
        // SAFETY: the memory is new, and nothing else uses it.
        let address = unsafe {
            mmap(
                None,
                NonZeroUsize::new(length).unwrap(),
                ProtFlags::PROT_READ | ProtFlags::PROT_WRITE,
                MapFlags::MAP_PRIVATE,
                file.as_fd(),
                MEMORY_OFFSET.cast_signed(),
            )
        }
        .unwrap();
        let page = |number: usize| {
            // SAFETY: the page is inside of the mapping.
            unsafe { address.cast::<u8>().add(number * PAGE as usize) }
        };
        let memory = Memory {
            qemu: std::process::id().cast_signed(),
            file: &path,
        };
        assert_eq!(WorkingSet::observe(&memory).unwrap(), set(&[], &[]));

        // SAFETY: both pages are mapped.
        unsafe {
            page(40).read_volatile();
            page(2).write_volatile(8);
        }
        let seen = WorkingSet::observe(&memory).unwrap();
        assert_eq!(seen.written, [Pages(2, 1)]);
        assert!(each(&seen.read).any(|page| page == 40), "{seen:?}");
        memory.write_to(&[Pages(4, 2), Pages(1000, 1)]).unwrap();
        let seen = WorkingSet::observe(&memory).unwrap();
        assert_eq!(seen.written, [Pages(2, 1), Pages(4, 2)]);
        // SAFETY: the page is mapped.
        assert_eq!(unsafe { page(5).read_volatile() }, 7);
        // SAFETY: nothing uses the memory anymore.
        unsafe { munmap(address, length) }.unwrap();
    }
}
