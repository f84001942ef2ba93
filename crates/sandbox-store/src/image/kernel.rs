//! Extracts the uncompressed kernel from a bzImage.
//!
//! QEMU starts an ELF file with a PVH note directly in protected mode. So the guest does not
//! decompress its kernel, which takes seconds in emulation. Linux's boot protocol defines the
//! layout of a bzImage (`Documentation/arch/x86/boot.rst`). The note is Xen's
//! `XEN_ELFNOTE_PHYS32_ENTRY` (`include/xen/interface/elfnote.h`).

use super::decompress::Compression;

/// Offset of `setup_sects`: length of the real-mode code in sectors, without the first sector.
const SETUP_SECTORS: usize = 0x1f1;
/// Offset and value of the magic "HdrS".
const HEADER_MAGIC: (usize, &[u8]) = (0x202, b"HdrS");
/// Offset of the protocol version.
const VERSION: usize = 0x206;
/// The first version with `payload_offset`.
const VERSION_WITH_PAYLOAD: u16 = 0x0208;
/// Offset of `payload_offset`, counted from the start of the protected-mode code.
const PAYLOAD_OFFSET: usize = 0x248;
/// Offset of `payload_length`.
const PAYLOAD_LENGTH: usize = 0x24c;
const SECTOR_BYTES: usize = 512;
/// The number of sectors that `setup_sects` 0 stands for.
const DEFAULT_SETUP_SECTORS: usize = 4;

/// The largest size of a decompressed kernel, in bytes. Debian's kernels have less than 80 MiB.
const KERNEL_LIMIT_BYTES: usize = 256 << 20;

const PROGRAM_HEADER_NOTE: u32 = 4;
const NOTE_PHYS32_ENTRY: u32 = 18;
/// The largest number of program headers that are read. Kernels have five.
const PROGRAM_HEADERS_LIMIT: u16 = 64;

/// Returns the uncompressed ELF kernel in `bz_image`.
///
/// # Errors
///
/// `bz_image` is not a bzImage, or its payload has an unknown format, is damaged or is not an ELF
/// file.
pub fn extract_vmlinux(bz_image: &[u8]) -> Result<Vec<u8>, KernelError> {
    let payload = payload(bz_image)?;
    let compression = Compression::detect(payload).ok_or(KernelError::UnknownCompression {
        magic: payload.iter().take(4).copied().collect(),
    })?;
    let vmlinux = compression
        .decompress(payload, KERNEL_LIMIT_BYTES)
        .map_err(|source| KernelError::Payload { source })?;
    if !vmlinux.starts_with(b"\x7fELF") {
        return Err(KernelError::PayloadNotElf);
    }
    Ok(vmlinux)
}

/// Returns whether the 64-bit little-endian ELF file `vmlinux` has a PVH entry point.
pub fn has_pvh_entry(vmlinux: &[u8]) -> bool {
    pvh_note(vmlinux).is_some()
}

fn payload(bz_image: &[u8]) -> Result<&[u8], KernelError> {
    let (offset, magic) = HEADER_MAGIC;
    if bz_image.get(offset..offset + magic.len()) != Some(magic) {
        return Err(KernelError::NotBzImage);
    }
    let version = u16_at(bz_image, VERSION).ok_or(KernelError::NotBzImage)?;
    if version < VERSION_WITH_PAYLOAD {
        return Err(KernelError::OldProtocol { version });
    }
    let setup_sectors = match bz_image[SETUP_SECTORS] {
        0 => DEFAULT_SETUP_SECTORS,
        count => usize::from(count),
    };
    let range = || {
        let offset = u32_at(bz_image, PAYLOAD_OFFSET)? as usize;
        let length = u32_at(bz_image, PAYLOAD_LENGTH)? as usize;
        let start = ((setup_sectors + 1) * SECTOR_BYTES).checked_add(offset)?;
        bz_image.get(start..start.checked_add(length)?)
    };
    range().ok_or(KernelError::PayloadOutside)
}

/// Returns the descriptor of the PVH note, if there is one.
fn pvh_note(elf: &[u8]) -> Option<&[u8]> {
    const CLASS_64_LITTLE_ENDIAN: &[u8] = &[2, 1];
    if !elf.starts_with(b"\x7fELF") || elf.get(4..6)? != CLASS_64_LITTLE_ENDIAN {
        return None;
    }
    let table = usize::try_from(u64_at(elf, 32)?).ok()?;
    let entry_bytes = usize::from(u16_at(elf, 54)?);
    let count = u16_at(elf, 56)?.min(PROGRAM_HEADERS_LIMIT);
    (0..usize::from(count)).find_map(|index| {
        let header = elf.get(table.checked_add(index * entry_bytes)?..)?;
        if u32_at(header, 0)? != PROGRAM_HEADER_NOTE {
            return None;
        }
        let start = usize::try_from(u64_at(header, 8)?).ok()?;
        let length = usize::try_from(u64_at(header, 32)?).ok()?;
        find_note(elf.get(start..start.checked_add(length)?)?)
    })
}

fn find_note(mut notes: &[u8]) -> Option<&[u8]> {
    loop {
        let name_bytes = u32_at(notes, 0)? as usize;
        let descriptor_bytes = u32_at(notes, 4)? as usize;
        let kind = u32_at(notes, 8)?;
        let name = notes.get(12..)?.get(..name_bytes)?;
        let descriptor_start = 12_usize.checked_add(name_bytes.checked_next_multiple_of(4)?)?;
        let descriptor = notes.get(descriptor_start..)?.get(..descriptor_bytes)?;
        if name == b"Xen\0" && kind == NOTE_PHYS32_ENTRY {
            return Some(descriptor);
        }
        let next = descriptor_start.checked_add(descriptor_bytes.checked_next_multiple_of(4)?)?;
        notes = notes.get(next..)?;
    }
}

fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    let bytes = bytes.get(offset..)?.first_chunk()?;
    Some(u16::from_le_bytes(*bytes))
}

fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    let bytes = bytes.get(offset..)?.first_chunk()?;
    Some(u32::from_le_bytes(*bytes))
}

fn u64_at(bytes: &[u8], offset: usize) -> Option<u64> {
    let bytes = bytes.get(offset..)?.first_chunk()?;
    Some(u64::from_le_bytes(*bytes))
}

/// The reason why a kernel file contains no usable kernel.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// The header has no magic.
    #[error("the kernel is not a bzImage")]
    NotBzImage,
    /// The kernel was built before 2008.
    #[error(
        "the kernel has boot protocol {:#06x}, which does not contain the payload's offset",
        version
    )]
    OldProtocol {
        /// The version in the header.
        version: u16,
    },
    /// The header points beyond the end of the file.
    #[error("the kernel's payload extends beyond the end of the file")]
    PayloadOutside,
    /// The payload is neither gzip nor xz nor zstd.
    #[error(
        "the kernel's payload is compressed in an unknown format (it starts with {magic:02x?})"
    )]
    UnknownCompression {
        /// The first bytes.
        magic: Vec<u8>,
    },
    /// The payload is damaged or too large.
    #[error("could not decompress the kernel's payload")]
    Payload {
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// The decompressed payload is not an ELF file.
    #[error("the kernel's payload is not an ELF file")]
    PayloadNotElf,
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    /// Returns a minimal ELF file with one segment of notes.
    fn elf(notes: &[u8]) -> Vec<u8> {
        let mut elf = vec![0; 64 + 56];
        elf[..6].copy_from_slice(b"\x7fELF\x02\x01");
        elf[32..40].copy_from_slice(&64_u64.to_le_bytes());
        elf[54..56].copy_from_slice(&56_u16.to_le_bytes());
        elf[56..58].copy_from_slice(&1_u16.to_le_bytes());
        elf[64..68].copy_from_slice(&PROGRAM_HEADER_NOTE.to_le_bytes());
        elf[72..80].copy_from_slice(&120_u64.to_le_bytes());
        elf[96..104].copy_from_slice(&(notes.len() as u64).to_le_bytes());
        elf.extend(notes);
        elf
    }

    fn note(name: &[u8], kind: u32, descriptor: &[u8]) -> Vec<u8> {
        let mut note = Vec::new();
        note.extend((name.len() as u32).to_le_bytes());
        note.extend((descriptor.len() as u32).to_le_bytes());
        note.extend(kind.to_le_bytes());
        for part in [name, descriptor] {
            note.extend(part);
            note.resize(note.len().next_multiple_of(4), 0);
        }
        note
    }

    /// Returns a bzImage with two setup sectors, and `payload` 100 bytes into the protected-mode
    /// code.
    fn bz_image(payload: &[u8]) -> Vec<u8> {
        let mut image = vec![0; 3 * SECTOR_BYTES + 100];
        image[SETUP_SECTORS] = 2;
        image[0x202..0x206].copy_from_slice(b"HdrS");
        image[VERSION..VERSION + 2].copy_from_slice(&0x020f_u16.to_le_bytes());
        image[PAYLOAD_OFFSET..PAYLOAD_OFFSET + 4].copy_from_slice(&100_u32.to_le_bytes());
        image[PAYLOAD_LENGTH..PAYLOAD_LENGTH + 4]
            .copy_from_slice(&(payload.len() as u32).to_le_bytes());
        image.extend(payload);
        image
    }

    fn gzip(content: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn extract_vmlinux_returns_payload() {
        let kernel = elf(&[]);
        assert_eq!(extract_vmlinux(&bz_image(&gzip(&kernel))).unwrap(), kernel);
    }

    #[test]
    fn extract_vmlinux_of_invalid_kernel_fails() {
        let good = bz_image(&gzip(&elf(&[])));
        let mut old = good.clone();
        old[VERSION] = 0x07;
        let mut long = good.clone();
        long[PAYLOAD_LENGTH..PAYLOAD_LENGTH + 4].copy_from_slice(&[0xff; 4]);
        type Check = fn(&KernelError) -> bool;
        let cases: [(&str, &[u8], Check); 7] = [
            ("empty", &[], |e| matches!(e, KernelError::NotBzImage)),
            ("cut in the header", &good[..0x207], |e| {
                matches!(e, KernelError::NotBzImage)
            }),
            ("old", &old, |e| {
                matches!(e, KernelError::OldProtocol { version: 0x0207 })
            }),
            ("too long", &long, |e| {
                matches!(e, KernelError::PayloadOutside)
            }),
            ("truncated", &good[..good.len() - 1], |e| {
                matches!(e, KernelError::PayloadOutside)
            }),
            ("unknown format", &bz_image(b"????"), |e| {
                matches!(e, KernelError::UnknownCompression { .. })
            }),
            ("not ELF", &bz_image(&gzip(b"text")), |e| {
                matches!(e, KernelError::PayloadNotElf)
            }),
        ];
        for (case, image, expected) in cases {
            let error = extract_vmlinux(image).unwrap_err();
            assert!(expected(&error), "{case}: {error}");
        }
    }

    #[test]
    fn pvh_entry_behind_other_notes_is_found() {
        let pvh = note(b"Xen\0", NOTE_PHYS32_ENTRY, &[0; 8]);
        let other = note(b"Linux\0", 257, &[1, 2, 3]);
        let same_number = note(b"GNU\0", NOTE_PHYS32_ENTRY, &[0; 8]);
        assert!(has_pvh_entry(&elf(&pvh)));
        assert!(has_pvh_entry(&elf(&[other.clone(), pvh.clone()].concat())));
        assert!(!has_pvh_entry(&elf(&[other, same_number].concat())));
        assert!(!has_pvh_entry(&elf(&[])));
    }

    #[test]
    fn pvh_entry_of_truncated_elf_is_absent() {
        let whole = elf(&note(b"Xen\0", NOTE_PHYS32_ENTRY, &[0; 8]));
        for length in 0..whole.len() {
            assert!(!has_pvh_entry(&whole[..length]), "{length}");
        }
        let mut endless = note(b"Xen\0", NOTE_PHYS32_ENTRY, &[0; 8]);
        endless[..4].copy_from_slice(&[0xff; 4]);
        assert!(!has_pvh_entry(&elf(&endless)));
    }
}
