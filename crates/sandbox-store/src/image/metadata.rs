//! What the store records about an image: `images/<name>/metadata.json`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use sandbox_spec::{Digest, ImageReference};

/// The version of the metadata format that this program reads and writes.
pub const METADATA_VERSION: u64 = 1;

/// The contract between host and guest that images built by this program keep:
/// names of credentials, the event port, the layout of the initrd.
pub const CONTRACT_VERSION: u32 = 2;

/// The record of one stored image.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Metadata {
    /// [`METADATA_VERSION`] when it was written.
    pub version: u64,
    /// The name it is stored under.
    pub name: ImageReference,
    /// Digest of the canonical form of `content`; two images with the same digest are the same.
    pub digest: Digest,
    /// Everything else.
    pub content: ImageContent,
}

/// What an image is, independent of its name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageContent {
    /// Digest of everything of the recipe that went into the image.
    pub recipe_hash: Digest,
    /// [`CONTRACT_VERSION`] when it was built.
    pub contract_version: u32,
    /// Debian's name of the processor architecture, `amd64`.
    pub architecture: String,
    /// When the build finished.
    pub created: jiff::Timestamp,
    /// The guest's device node of the root file system.
    pub root_device: String,
    /// The kernel command line that the image wants.
    pub command_line: String,
    /// The Debian suite, such as `trixie`.
    pub suite: String,
    /// The mirror it was installed from.
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
    /// What QEMU's `-kernel` gets.
    pub kernel: KernelFile,
    /// The first part of the initrd: kernel modules as an uncompressed newc archive.
    pub modules: StoredFile,
}

/// A file of the blob store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredFile {
    /// Digest of the bytes; also the file's name in the blob store.
    pub digest: Digest,
    /// Length in bytes.
    pub size_bytes: u64,
}

/// The disk and its size as the guest sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiskFile {
    /// The qcow2 file.
    pub file: StoredFile,
    /// Size of the disk in the guest, in bytes.
    pub virtual_size_bytes: u64,
}

/// The kernel and its form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KernelFile {
    /// The file.
    pub file: StoredFile,
    /// How QEMU starts it.
    pub format: KernelFormat,
}

/// The form of a kernel file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KernelFormat {
    /// An uncompressed ELF file with a PVH entry point: no decompression in the guest.
    Vmlinux,
    /// The compressed file as Debian ships it.
    BzImage,
}

impl Metadata {
    /// The record of `content` under `name`.
    pub fn new(name: ImageReference, content: ImageContent) -> Self {
        Self {
            version: METADATA_VERSION,
            name,
            digest: content.digest(),
            content,
        }
    }

    /// The digests of all files of the image.
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
    /// Digest of the compact JSON form: fields in the order of declaration, packages sorted.
    pub fn digest(&self) -> Digest {
        let canonical =
            serde_json::to_vec(self).expect("a tree of strings and numbers serializes to JSON");
        Digest::of(&canonical)
    }
}

/// What can be wrong with the bytes of a metadata file.
#[derive(Debug)]
pub(super) enum MetadataFault {
    /// Not JSON of the known shape.
    Unreadable(serde_json::Error),
    /// Written by another version.
    UnknownVersion(u64),
    /// The digest is not that of the content.
    Changed,
}

/// Reads a metadata file, looking at the version before anything else.
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

    /// Metadata for tests; the files are named by the digests of the given contents.
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
    fn metadata_is_read_back_as_written() {
        let metadata = sample("debian-13", b"disk", b"kernel", b"modules");
        let bytes = serde_json::to_vec_pretty(&metadata).unwrap();
        assert_eq!(parse(&bytes).unwrap(), metadata);
    }

    #[test]
    fn other_version_is_refused_before_the_rest_is_read() {
        assert!(matches!(
            parse(br#"{"version":2,"surprise":true}"#),
            Err(MetadataFault::UnknownVersion(2))
        ));
    }

    #[test]
    fn changed_field_is_noticed() {
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
    fn unknown_field_and_damage_are_unreadable() {
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
