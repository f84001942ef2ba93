//! The image store: a directory of blobs named by digest and of images that refer to them.
//!
//! ```text
//! blobs/sha256/<hex>             files of images
//! images/<name>/metadata.json    the record of an image
//! images/<name>/fingerprints.json
//! staging/<random>/              a build at work, locked by it
//! locks/<name>.lock              held by the build of that image
//! logs/build-<name>.log          what the last build of that image printed
//! lock                           held while blobs are added or removed
//! ```

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::error::{Damage, ImageError};
use super::files;
use super::fingerprint::{Fingerprint, Fingerprints};
use super::metadata::{self, CONTRACT_VERSION, Metadata, MetadataFault};
use sandbox_spec::{Digest, ImageReference};

/// The image store at one directory.
#[derive(Debug, Clone)]
pub struct ImageStore {
    pub(super) root: PathBuf,
}

/// A stored image and where its files are.
#[derive(Debug, Clone)]
pub struct Image {
    /// The record.
    pub metadata: Metadata,
    /// The read-only qcow2 base disk.
    pub disk: PathBuf,
    /// What QEMU's `-kernel` gets.
    pub kernel: PathBuf,
    /// The newc archive with the kernel modules, first part of the initrd.
    pub modules: PathBuf,
    fingerprints: PathBuf,
}

/// One row of [`ImageStore::list`].
#[derive(Debug)]
pub struct StoreEntry {
    /// The image's name.
    pub reference: ImageReference,
    /// The image, or why it cannot be used.
    pub image: Result<Image, ImageError>,
}

/// The three files of a new image, still in a staging directory.
#[derive(Debug)]
pub(super) struct StagedFiles {
    pub(super) disk: PathBuf,
    pub(super) kernel: PathBuf,
    pub(super) modules: PathBuf,
}

impl ImageStore {
    /// The store at `root`. Nothing is created before something is stored.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The directory of the store.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The image stored as `reference`, with its paths; its files are not looked at
    /// (see [`Image::verify`]).
    ///
    /// # Errors
    ///
    /// The metadata cannot be read, is of another version, or was changed.
    pub fn open(&self, reference: &ImageReference) -> Result<Option<Image>, ImageError> {
        let path = self.image_directory(reference).join("metadata.json");
        let bytes = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(ImageError::io("read", &path))?,
        };
        let name = reference.clone();
        let metadata = metadata::parse(&bytes).map_err(|fault| match fault {
            MetadataFault::Unreadable(source) => {
                ImageError::UnreadableMetadata { name, path, source }
            }
            MetadataFault::UnknownVersion(found) => ImageError::UnknownMetadataVersion {
                name,
                found,
                known: metadata::METADATA_VERSION,
            },
            MetadataFault::Changed => ImageError::ChangedMetadata { name },
        })?;
        let [disk, kernel, modules] = metadata.file_digests().map(|digest| self.blob(&digest));
        Ok(Some(Image {
            metadata,
            disk,
            kernel,
            modules,
            fingerprints: self.image_directory(reference).join("fingerprints.json"),
        }))
    }

    /// All stored images by name; one that cannot be read does not hide the others.
    ///
    /// # Errors
    ///
    /// The directory cannot be listed.
    pub fn list(&self) -> Result<Vec<StoreEntry>, ImageError> {
        let mut entries = Vec::new();
        for name in files::list_directory(&self.root.join("images"))? {
            let Ok(reference) = name.parse::<ImageReference>() else {
                continue;
            };
            match self.open(&reference) {
                Ok(None) => {}
                Ok(Some(image)) => entries.push(StoreEntry {
                    reference,
                    image: Ok(image),
                }),
                Err(error) => entries.push(StoreEntry {
                    reference,
                    image: Err(error),
                }),
            }
        }
        Ok(entries)
    }

    /// Removes the image `reference` and every blob that no image refers to any more.
    /// Whether a sandbox uses the image is for the caller to find out.
    ///
    /// Returns whether there was such an image; one with unreadable metadata is removed too.
    ///
    /// # Errors
    ///
    /// A file cannot be removed.
    pub fn remove(&self, reference: &ImageReference) -> Result<bool, ImageError> {
        let directory = self.image_directory(reference);
        if !directory.exists() {
            return Ok(false);
        }
        let _lock = self.lock()?;
        // The metadata goes first: without it the image does not exist.
        let metadata = directory.join("metadata.json");
        let existed = metadata.exists();
        files::remove_file(&metadata)?;
        fs::remove_dir_all(&directory).map_err(ImageError::io("remove", &directory))?;
        self.remove_unreferenced_blobs()?;
        Ok(existed)
    }

    /// Moves the staged files to the blobs and records the image, replacing one of the same name.
    ///
    /// Blobs of the replaced image stay until the next [`ImageStore::collect_garbage`], so that
    /// a start that has just read its metadata still finds them.
    pub(super) fn commit(
        &self,
        metadata: &Metadata,
        staged: &StagedFiles,
    ) -> Result<Image, ImageError> {
        let blobs = self.blobs();
        let images = self.root.join("images");
        let directory = self.image_directory(&metadata.name);
        files::create_private_directory(&blobs)?;
        let _lock = self.lock()?;
        let mut fingerprints = Fingerprints::default();
        let sources = [&staged.disk, &staged.kernel, &staged.modules];
        for (source, digest) in sources.into_iter().zip(metadata.file_digests()) {
            let blob = self.blob(&digest);
            synchronize_private(source)?;
            fs::rename(source, &blob).map_err(ImageError::io("store", &blob))?;
            if let Some(fingerprint) = Fingerprint::of(&blob)? {
                fingerprints.record(digest, fingerprint);
            }
        }
        files::synchronize_directory(&blobs)?;
        files::create_private_directory(&directory)?;
        fingerprints.write(&directory.join("fingerprints.json"))?;
        let record = serde_json::to_vec_pretty(metadata)
            .expect("a tree of strings and numbers serializes to JSON");
        files::replace(&directory.join("metadata.json"), &record)?;
        files::synchronize_directory(&images)?;
        self.open(&metadata.name)?
            .ok_or_else(|| missing_after_commit(&directory))
    }

    /// Removes blobs that no image refers to: those of replaced images.
    ///
    /// # Errors
    ///
    /// A file cannot be removed.
    pub fn collect_garbage(&self) -> Result<(), ImageError> {
        let _lock = self.lock()?;
        self.remove_unreferenced_blobs()
    }

    /// Takes the lock under which blobs and staging directories come and go.
    pub(super) fn lock(&self) -> Result<File, ImageError> {
        files::create_private_directory(&self.root)?;
        let path = self.root.join("lock");
        let lock = files::open_private(&path)?;
        lock.lock().map_err(ImageError::io("lock", &path))?;
        Ok(lock)
    }

    /// The file, created but not locked, whose lock the build of `reference` holds.
    pub(super) fn build_lock(
        &self,
        reference: &ImageReference,
    ) -> Result<(File, PathBuf), ImageError> {
        let directory = self.root.join("locks");
        files::create_private_directory(&directory)?;
        let path = directory.join(format!("{reference}.lock"));
        Ok((files::open_private(&path)?, path))
    }

    /// Where the build of `reference` writes what its programs print.
    pub(super) fn build_log(&self, reference: &ImageReference) -> Result<PathBuf, ImageError> {
        let directory = self.root.join("logs");
        files::create_private_directory(&directory)?;
        Ok(directory.join(format!("build-{reference}.log")))
    }

    fn blobs(&self) -> PathBuf {
        self.root.join("blobs/sha256")
    }

    fn blob(&self, digest: &Digest) -> PathBuf {
        self.blobs().join(digest.hex())
    }

    fn image_directory(&self, reference: &ImageReference) -> PathBuf {
        self.root.join("images").join(reference.as_str())
    }

    /// Where builds at work have their directories.
    pub(super) fn staging(&self) -> PathBuf {
        self.root.join("staging")
    }

    /// To be called with the store's lock held.
    fn remove_unreferenced_blobs(&self) -> Result<(), ImageError> {
        for blob in self.unreferenced_blobs()? {
            files::remove_file(&blob)?;
        }
        Ok(())
    }

    /// An image that cannot be read keeps all blobs: what it refers to is unknown, and a newer
    /// version of this program may still want it.
    pub(super) fn unreferenced_blobs(&self) -> Result<Vec<PathBuf>, ImageError> {
        let mut referenced = BTreeSet::new();
        for entry in self.list()? {
            match entry.image {
                Ok(image) => referenced.extend(image.metadata.file_digests().map(|d| d.hex())),
                Err(_) => return Ok(Vec::new()),
            }
        }
        let blobs = self.blobs();
        let mut names = files::list_directory(&blobs)?;
        names.retain(|name| !referenced.contains(name));
        Ok(names.iter().map(|name| blobs.join(name)).collect())
    }
}

impl Image {
    /// Makes sure that this program can start the image and that the files are those that were
    /// stored. As long as size, time of
    /// modification and inode are as recorded this takes microseconds; otherwise the files are
    /// hashed, and recorded anew when they are right.
    ///
    /// # Errors
    ///
    /// [`ImageError::OtherContract`]; [`ImageError::Corrupt`] for the first file that is missing,
    /// truncated or changed.
    pub fn verify(&self) -> Result<(), ImageError> {
        let found = self.metadata.content.contract_version;
        if found != CONTRACT_VERSION {
            return Err(ImageError::OtherContract {
                name: self.metadata.name.clone(),
                found,
                known: CONTRACT_VERSION,
            });
        }
        let mut fingerprints = Fingerprints::read(&self.fingerprints);
        let before = fingerprints.clone();
        let files = &self.metadata.content.files;
        let expected = [
            (&self.disk, files.disk.file),
            (&self.kernel, files.kernel.file),
            (&self.modules, files.modules),
        ];
        for (path, file) in expected {
            let corrupt = |damage| ImageError::Corrupt {
                name: self.metadata.name.clone(),
                path: path.clone(),
                damage,
            };
            let found = Fingerprint::of(path)?.ok_or_else(|| corrupt(Damage::Missing))?;
            if fingerprints.confirm(&file.digest, &found) {
                continue;
            }
            if found.size_bytes != file.size_bytes {
                return Err(corrupt(Damage::WrongSize {
                    expected_bytes: file.size_bytes,
                    found_bytes: found.size_bytes,
                }));
            }
            if files::hash(path)? != (file.digest, file.size_bytes) {
                return Err(corrupt(Damage::WrongContent));
            }
            fingerprints.record(file.digest, found);
        }
        if fingerprints != before {
            fingerprints.write(&self.fingerprints)?;
        }
        Ok(())
    }
}

/// Writes the file at `path` to the disk itself, with mode 0600.
fn synchronize_private(path: &Path) -> Result<(), ImageError> {
    use std::os::unix::fs::PermissionsExt as _;
    let synchronize = || -> io::Result<()> {
        let file = File::open(path)?;
        file.set_permissions(fs::Permissions::from_mode(0o600))?;
        file.sync_all()
    };
    synchronize().map_err(ImageError::io("synchronize", path))
}

fn missing_after_commit(directory: &Path) -> ImageError {
    ImageError::Io {
        action: "read",
        path: directory.join("metadata.json"),
        source: io::ErrorKind::NotFound.into(),
    }
}

#[cfg(test)]
mod tests;
