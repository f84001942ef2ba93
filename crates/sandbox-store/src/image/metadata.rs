//! The record of an image, `images/<name>/metadata.json`.

use std::collections::BTreeMap;

use sandbox_spec::{Digest, ImageReference};
use serde::{Deserialize, Serialize};

/// The version of the metadata format that this program reads and writes.
pub const METADATA_VERSION: u64 = 1;

/// The version of the contract between host and guest in the images of this program. The contract
/// covers the names of credentials, the event port and the layout of the initrd.
pub const CONTRACT_VERSION: u32 = 2;

/// The record of one stored image.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Metadata {
    /// [`METADATA_VERSION`] when it was written.
    pub version: u64,
    /// The name of the image.
    pub name: ImageReference,
    /// Digest of the canonical form of `content`. Images with equal digests are equal.
    pub digest: Digest,
    /// The image, apart from its name.
    pub content: ImageContent,
}

/// An image, independent of its name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageContent {
    /// Digest of the recipe and of the files that it puts into the image.
    pub recipe_hash: Digest,
    /// [`CONTRACT_VERSION`] when it was built.
    pub contract_version: u32,
    /// Debian's name of the processor architecture, `amd64`.
    pub architecture: String,
    /// The end of the build.
    pub created: jiff::Timestamp,
    /// The guest's device node of the root file system.
    pub root_device: String,
    /// The kernel command line of the image.
    pub command_line: String,
    /// The Debian suite, such as `trixie`.
    pub suite: String,
    /// The mirror that the packages come from.
    pub mirror: String,
    /// The kernel's release, such as `6.12.0-1-amd64`.
    pub kernel_release: String,
    /// The files in the blob store.
    pub files: ImageFiles,
    /// Installed packages and their versions.
    pub packages: BTreeMap<String, String>,
}

/// The three files of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageFiles {
    /// The root file system in a qcow2 file, without a partition table.
    pub disk: DiskFile,
    /// The argument of QEMU's `-kernel`.
    pub kernel: KernelFile,
    /// The first part of the initrd: kernel modules as an uncompressed newc archive.
    pub modules: StoredFile,
}

/// A file of the blob store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredFile {
    /// Digest of the content, which names the file in the blob store.
    pub digest: Digest,
    /// Length in bytes.
    pub size_bytes: u64,
}

/// The disk of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiskFile {
    /// The qcow2 file.
    pub file: StoredFile,
    /// Size of the disk as the guest sees it, in bytes.
    pub virtual_size_bytes: u64,
}

/// The kernel of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KernelFile {
    /// The file.
    pub file: StoredFile,
    /// The form of the file.
    pub format: KernelFormat,
}

/// The form of a kernel file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KernelFormat {
    /// An uncompressed ELF file with a PVH entry point, which the guest does not decompress.
    Vmlinux,
    /// The compressed file of Debian's package.
    BzImage,
}

impl Metadata {
    /// Returns the record of `content` under `name`.
    pub fn new(name: ImageReference, content: ImageContent) -> Self {
        Self {
            version: METADATA_VERSION,
            name,
            digest: content.digest(),
            content,
        }
    }

    /// Returns the digests of disk, kernel and modules.
    pub fn file_digests(&self) -> [Digest; 3] {
        let files = &self.content.files;
        [
            files.disk.file.digest,
            files.kernel.file.digest,
            files.modules.digest,
        ]
    }
}

impl ImageContent {
    /// Returns the digest of the compact JSON form: fields in the order of declaration, packages
    /// sorted.
    pub fn digest(&self) -> Digest {
        let canonical =
            serde_json::to_vec(self).expect("a tree of strings and numbers serializes to JSON");
        Digest::of(&canonical)
    }
}

/// A defect of a metadata file.
#[derive(Debug)]
pub(super) enum MetadataFault {
    /// The file is not JSON of the known form.
    Unreadable(serde_json::Error),
    /// Another version of this program wrote the file.
    UnknownVersion(u64),
    /// The digest does not match the content.
    Changed,
}

/// Reads a metadata file. Checks the version before the other fields.
pub(super) fn parse(bytes: &[u8]) -> Result<Metadata, MetadataFault> {
    #[derive(Deserialize)]
    struct Versioned {
        version: u64,
    }
    let Versioned { version } = serde_json::from_slice(bytes).map_err(MetadataFault::Unreadable)?;
    if version != METADATA_VERSION {
        return Err(MetadataFault::UnknownVersion(version));
    }
    let metadata: Metadata = serde_json::from_slice(bytes).map_err(MetadataFault::Unreadable)?;
    if metadata.digest != metadata.content.digest() {
        return Err(MetadataFault::Changed);
    }
    Ok(metadata)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Returns metadata of an image whose files have the given contents.
    pub(crate) fn sample(name: &str, disk: &[u8], kernel: &[u8], modules: &[u8]) -> Metadata {
        let stored = |bytes: &[u8]| StoredFile {
            digest: Digest::of(bytes),
            size_bytes: bytes.len() as u64,
        };
        let content = ImageContent {
            recipe_hash: Digest::of(b"recipe"),
            contract_version: CONTRACT_VERSION,
            architecture: "amd64".to_owned(),
            created: "2026-01-02T03:04:05Z".parse().unwrap(),
            root_device: "/dev/vda".to_owned(),
            command_line: "root=/dev/vda".to_owned(),
            suite: "trixie".to_owned(),
            mirror: "http://deb.debian.org/debian".to_owned(),
            kernel_release: "6.12.0-1-amd64".to_owned(),
            files: ImageFiles {
                disk: DiskFile {
                    file: stored(disk),
                    virtual_size_bytes: 1 << 30,
                },
                kernel: KernelFile {
                    file: stored(kernel),
                    format: KernelFormat::Vmlinux,
                },
                modules: stored(modules),
            },
            packages: [("bash".to_owned(), "5.2".to_owned())].into(),
        };
        Metadata::new(name.parse().unwrap(), content)
    }

    #[test]
    fn parse_reads_written_metadata() {
        let metadata = sample("debian-13", b"disk", b"kernel", b"modules");
        let bytes = serde_json::to_vec_pretty(&metadata).unwrap();
        assert_eq!(parse(&bytes).unwrap(), metadata);
    }

    #[test]
    fn parse_other_version_ignores_unknown_fields() {
        assert!(matches!(
            parse(br#"{"version":2,"surprise":true}"#),
            Err(MetadataFault::UnknownVersion(2))
        ));
    }

    #[test]
    fn parse_changed_field_fails() {
        let metadata = sample("debian-13", b"disk", b"kernel", b"modules");
        let text = serde_json::to_string(&metadata).unwrap();
        let changed = text.replace("/dev/vda", "/dev/vdb");
        assert_ne!(text, changed);
        assert!(matches!(
            parse(changed.as_bytes()),
            Err(MetadataFault::Changed)
        ));
    }

    #[test]
    fn parse_unknown_field_or_damage_fails() {
        let metadata = sample("debian-13", b"disk", b"kernel", b"modules");
        let text = serde_json::to_string(&metadata).unwrap();
        for damaged in [
            text.replacen('{', r#"{"extra":1,"#, 1),
            text[..text.len() / 2].to_owned(),
            String::new(),
        ] {
            assert!(matches!(
                parse(damaged.as_bytes()),
                Err(MetadataFault::Unreadable(_))
            ));
        }
    }
}
