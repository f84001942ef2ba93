//! The initrd: uncompressed cpio archives in the "newc" format
//! (Linux `Documentation/driver-api/early-userspace/buffer-format.rst`).
//!
//! It has two parts, which the kernel unpacks into one tree. The image contains the archive of
//! kernel modules. The host appends the guest agent at each start, so that init always has the
//! host's version.

/// File types of an entry: `S_IFREG` and `S_IFDIR`.
const REGULAR_FILE: u32 = 0o100_000;
const DIRECTORY: u32 = 0o040_000;
/// Headers and contents start at multiples of this number of bytes.
const ALIGNMENT_BYTES: usize = 4;
/// Archives are padded to a multiple of this number of bytes, as by cpio(1).
const BLOCK_BYTES: usize = 512;
/// The name of the entry that ends an archive.
const TRAILER: &str = "TRAILER!!!";

/// Returns the image's part: `/modules/<file>` for each module, and `/modules/load-order` with
/// their file names, one per line.
///
/// `modules` contains file names and uncompressed contents in the order of loading.
pub fn modules_archive(modules: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut archive = Archive::default();
    archive.add("modules", DIRECTORY | 0o755, &[]);
    let mut load_order = String::new();
    for (file, contents) in modules {
        archive.add(&format!("modules/{file}"), REGULAR_FILE | 0o644, contents);
        load_order.push_str(file);
        load_order.push('\n');
    }
    archive.add(
        "modules/load-order",
        REGULAR_FILE | 0o644,
        load_order.as_bytes(),
    );
    archive.finish()
}

/// Returns the whole initrd: the image's archive `modules_cpio`, then an archive with the guest
/// agent as `/init`.
pub fn compose(modules_cpio: &[u8], agent: &[u8]) -> Vec<u8> {
    let mut archive = Archive::default();
    archive.add("init", REGULAR_FILE | 0o755, agent);
    let agent_cpio = archive.finish();
    let modules_bytes = modules_cpio.len().next_multiple_of(BLOCK_BYTES);
    let mut initrd = Vec::with_capacity(modules_bytes + agent_cpio.len());
    initrd.extend_from_slice(modules_cpio);
    initrd.resize(modules_bytes, 0);
    initrd.extend(agent_cpio);
    initrd
}

/// An unfinished newc archive.
#[derive(Default)]
struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

impl Archive {
    fn add(&mut self, name: &str, mode: u32, contents: &[u8]) {
        use std::io::Write as _;
        // Inode numbers only identify hard links, so each entry gets its own.
        self.entries += 1;
        let links = 1;
        let fields: [u32; 13] = [
            self.entries,
            mode,
            0, // owner
            0, // group
            links,
            0, // modification time
            u32::try_from(contents.len()).expect("kernel modules and init are below 4 GiB"),
            0, // device of the file system, major
            0, // device of the file system, minor
            0, // device of the node, major
            0, // device of the node, minor
            u32::try_from(name.len() + 1).expect("names are short"),
            0, // checksum, unused in this format
        ];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            write!(self.bytes, "{field:08x}").expect("writing to memory cannot fail");
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad(ALIGNMENT_BYTES);
        self.bytes.extend_from_slice(contents);
        self.pad(ALIGNMENT_BYTES);
    }

    fn finish(mut self) -> Vec<u8> {
        self.add(TRAILER, 0, &[]);
        self.pad(BLOCK_BYTES);
        self.bytes
    }

    fn pad(&mut self, alignment: usize) {
        let padded = self.bytes.len().next_multiple_of(alignment);
        self.bytes.resize(padded, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads an initrd as the kernel does: consecutive archives with zeros between them.
    fn unpack(mut initrd: &[u8]) -> Vec<(String, u32, Vec<u8>)> {
        let whole = initrd.len();
        let mut entries = Vec::new();
        while !initrd.is_empty() {
            let position = whole - initrd.len();
            if initrd[0] == 0 {
                initrd = &initrd[1..];
                continue;
            }
            assert_eq!(position % ALIGNMENT_BYTES, 0);
            assert_eq!(&initrd[..6], b"070701");
            let field = |index: usize| {
                let digits = std::str::from_utf8(&initrd[6 + 8 * index..][..8]).unwrap();
                u32::from_str_radix(digits, 16).unwrap()
            };
            let (mode, size, name_size) = (field(1), field(6) as usize, field(11) as usize);
            let name = std::str::from_utf8(&initrd[110..][..name_size - 1]).unwrap();
            let start = (110 + name_size).next_multiple_of(ALIGNMENT_BYTES);
            let contents = initrd[start..][..size].to_vec();
            if name != TRAILER {
                entries.push((name.to_owned(), mode, contents));
            }
            initrd = &initrd[(start + size).next_multiple_of(ALIGNMENT_BYTES)..];
        }
        entries
    }

    #[test]
    fn compose_appends_agent_to_modules_and_load_order() {
        let modules = [
            ("b.ko".to_owned(), vec![1, 2, 3]),
            ("a.ko".to_owned(), vec![4; 5000]),
        ];
        let initrd = compose(&modules_archive(&modules), b"agent");
        let file = |name: &str, mode, contents: &[u8]| (name.to_owned(), mode, contents.to_vec());
        assert_eq!(
            unpack(&initrd),
            [
                file("modules", 0o040_755, b""),
                file("modules/b.ko", 0o100_644, &[1, 2, 3]),
                file("modules/a.ko", 0o100_644, &[4; 5000]),
                file("modules/load-order", 0o100_644, b"b.ko\na.ko\n"),
                file("init", 0o100_755, b"agent"),
            ]
        );
        assert_eq!(initrd.len() % BLOCK_BYTES, 0);
    }

    #[test]
    fn compose_pads_archive_of_odd_length() {
        let mut modules = modules_archive(&[]);
        modules.extend([0, 0, 0]);
        assert_eq!(unpack(&compose(&modules, b"agent")).len(), 3);
    }
}
