//! Reads the dependencies of a kernel module from its file.
//!
//! A module is a relocatable 64-bit ELF file. Its section `.modinfo` contains
//! `KEY=VALUE` strings that end with a zero byte (`linux/moduleparam.h`). The
//! kernel's `scripts/mod/modpost.c` writes `depends=`, a list of module names.

/// Offsets in the ELF header (elf(5), `Elf64_Ehdr`).
const SECTION_TABLE: usize = 0x28;
const SECTION_ENTRY_SIZE: usize = 0x3a;
const SECTION_COUNT: usize = 0x3c;
const NAMES_INDEX: usize = 0x3e;

/// Offsets in an entry of the section table (`Elf64_Shdr`).
const ENTRY_NAME: usize = 0x0;
const ENTRY_OFFSET: usize = 0x18;
const ENTRY_SIZE: usize = 0x20;

const SECTION: &[u8] = b".modinfo\0";
const KEY: &[u8] = b"depends=";

/// Returns the names of the needed modules, without suffix and with `_` for
/// `-`. Returns none for a file that is not a module: the kernel reports that.
pub(crate) fn dependencies(image: &[u8]) -> Vec<String> {
    modinfo(image)
        .unwrap_or_default()
        .split(|&byte| byte == 0)
        .find_map(|string| string.strip_prefix(KEY))
        .map(|names| String::from_utf8_lossy(names).replace('-', "_"))
        .unwrap_or_default()
        .split(',')
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect()
}

/// Returns the content of `.modinfo`.
fn modinfo(image: &[u8]) -> Option<&[u8]> {
    let table = number::<8>(image, SECTION_TABLE)?;
    let entry_size = number::<2>(image, SECTION_ENTRY_SIZE)?;
    let count = number::<2>(image, SECTION_COUNT)?;
    let entry = |index: usize| image.get(table.checked_add(index * entry_size)?..);
    let names = content(image, entry(number::<2>(image, NAMES_INDEX)?)?)?;
    (0..count).filter_map(entry).find_map(|entry| {
        let name = names.get(number::<4>(entry, ENTRY_NAME)?..)?;
        name.starts_with(SECTION).then(|| content(image, entry))?
    })
}

/// Returns the bytes that an entry of the section table describes.
fn content<'a>(image: &'a [u8], entry: &[u8]) -> Option<&'a [u8]> {
    let offset = number::<8>(entry, ENTRY_OFFSET)?;
    let size = number::<8>(entry, ENTRY_SIZE)?;
    image.get(offset..offset.checked_add(size)?)
}

/// Reads a little-endian number of `LENGTH` bytes.
fn number<const LENGTH: usize>(bytes: &[u8], offset: usize) -> Option<usize> {
    let digits = bytes.get(offset..offset.checked_add(LENGTH)?)?;
    let mut value = [0; 8];
    value[..LENGTH].copy_from_slice(digits);
    usize::try_from(u64::from_le_bytes(value)).ok()
}

#[cfg(test)]
mod tests {
    use super::dependencies;

    /// Builds an ELF file with two sections: names, and `.modinfo` with this
    /// content.
    fn module(info: &[u8]) -> Vec<u8> {
        let names = b".modinfo\0.names\0";
        let mut image = vec![0; 64];
        image[0x28..0x30].copy_from_slice(&64_u64.to_le_bytes());
        image[0x3a] = 64;
        image[0x3c] = 2;
        image[0x3e] = 1;
        for (name, offset, size) in [(0, 192 + names.len(), info.len()), (9, 192, names.len())] {
            let mut entry = [0; 64];
            entry[0] = name;
            entry[0x18..0x20].copy_from_slice(&(offset as u64).to_le_bytes());
            entry[0x20..0x28].copy_from_slice(&(size as u64).to_le_bytes());
            image.extend(entry);
        }
        image.extend(names);
        image.extend(info);
        image
    }

    #[test]
    fn dependencies_replace_dashes_and_may_be_empty() {
        for (info, names) in [
            (
                &b"license=GPL\0depends=crc16,jbd2,mb-cache\0name=x\0"[..],
                &["crc16", "jbd2", "mb_cache"][..],
            ),
            (b"depends=\0", &[]),
            (b"license=GPL\0", &[]),
        ] {
            assert_eq!(dependencies(&module(info)), names);
        }
    }

    #[test]
    fn dependencies_of_a_truncated_file_are_empty() {
        let image = module(b"depends=crc16\0");
        for length in 0..image.len() {
            assert_eq!(dependencies(&image[..length]), [""; 0], "{length}");
        }
    }
}
