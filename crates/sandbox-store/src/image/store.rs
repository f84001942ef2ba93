//! The image store: blobs named by their digests, and images that refer to them.
//!
//! ```text
//! blobs/sha256/<hex>             files of images
//! images/<name>/metadata.json    the record of an image
//! images/<name>/fingerprints.json
//! staging/<random>/              a build in progress, locked by the build
//! locks/<name>.lock              held by the build of this image
//! logs/build-<name>.log          the output of the last build of this image
//! lock                           held while blobs are added or removed
//! ```
//!
//! [`ImageStore::open`], [`ImageStore::list`] and [`ImageStore::usage`] change nothing.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use sandbox_host::files::{
    FileError, create_private_directory, names_in, remove_file_if_present, synchronize_directory,
};
use sandbox_spec::{Digest, ImageReference};

use super::error::{Damage, ImageError};
use super::files;
use super::fingerprint::{Fingerprint, Fingerprints};
use super::metadata::{self, CONTRACT_VERSION, Metadata, MetadataFault};

/// The image store in one directory.
#[derive(Debug, Clone)]
pub struct ImageStore {
    pub(super) root: PathBuf,
}

/// A stored image.
#[derive(Debug, Clone)]
pub struct Image {
    /// The record.
    pub metadata: Metadata,
    /// The qcow2 file of the base disk, which nothing writes to.
    pub disk: PathBuf,
    /// The argument of QEMU's `-kernel`.
    pub kernel: PathBuf,
    /// The newc archive with the kernel modules, which is the first part of the initrd.
    pub modules: PathBuf,
    fingerprints: PathBuf,
}

/// One row of [`ImageStore::list`].
#[derive(Debug)]
pub struct StoreEntry {
    /// The image's name.
    pub reference: ImageReference,
    /// The image, or the reason why it cannot be used.
    pub image: Result<Image, ImageError>,
}

/// The files of a new image in a staging directory.
#[derive(Debug)]
pub(super) struct StagedFiles {
    pub(super) disk: PathBuf,
    pub(super) kernel: PathBuf,
    pub(super) modules: PathBuf,
}

impl ImageStore {
    /// Returns the store in `root`. Nothing is created before the first build.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Returns the directory of the store.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Returns the image `reference`. Does not check its files (see [`Image::verify`]).
    ///
    /// # Errors
    ///
    /// The metadata cannot be read, has another version, or was changed.
    pub fn open(&self, reference: &ImageReference) -> Result<Option<Image>, ImageError> {
        let path = self.image_directory(reference).join("metadata.json");
        let bytes = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(FileError::new("read", &path))?,
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

    /// Returns all stored images by name, also those whose metadata cannot be read.
    ///
    /// # Errors
    ///
    /// The directory cannot be listed.
    pub fn list(&self) -> Result<Vec<StoreEntry>, ImageError> {
        let mut entries = Vec::new();
        for name in names_in(&self.root.join("images"))? {
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

    /// Removes the image `reference` and every blob that no image refers to. Also removes an image
    /// with unreadable metadata. The caller checks that no sandbox uses the image.
    ///
    /// Returns whether the image existed.
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
        // The image exists as long as its metadata does, so the metadata is removed first.
        let metadata = directory.join("metadata.json");
        let existed = metadata.exists();
        remove_file_if_present(&metadata)?;
        fs::remove_dir_all(&directory).map_err(FileError::new("remove", &directory))?;
        self.remove_unreferenced_blobs()?;
        Ok(existed)
    }

    /// Moves the staged files to the blobs, and records the image in place of an image of the same
    /// name.
    ///
    /// The blobs of a replaced image stay until [`ImageStore::collect_garbage`], so that a start
    /// that has just read its metadata still finds them.
    pub(super) fn commit(
        &self,
        metadata: &Metadata,
        staged: &StagedFiles,
    ) -> Result<Image, ImageError> {
        let blobs = self.blobs();
        let images = self.root.join("images");
        let directory = self.image_directory(&metadata.name);
        create_private_directory(&blobs)?;
        let _lock = self.lock()?;
        let mut fingerprints = Fingerprints::default();
        let sources = [&staged.disk, &staged.kernel, &staged.modules];
        for (source, digest) in sources.into_iter().zip(metadata.file_digests()) {
            let blob = self.blob(&digest);
            synchronize_private(source)?;
            fs::rename(source, &blob).map_err(FileError::new("store", &blob))?;
            if let Some(fingerprint) = Fingerprint::of(&blob)? {
                fingerprints.record(digest, fingerprint);
            }
        }
        synchronize_directory(&blobs)?;
        create_private_directory(&directory)?;
        fingerprints.write(&directory.join("fingerprints.json"))?;
        let record = serde_json::to_vec_pretty(metadata)
            .expect("a tree of strings and numbers serializes to JSON");
        files::replace(&directory.join("metadata.json"), &record)?;
        synchronize_directory(&images)?;
        self.open(&metadata.name)?
            .ok_or_else(|| missing_after_commit(&directory))
    }

    /// Removes the blobs of replaced images: those that no image refers to.
    ///
    /// # Errors
    ///
    /// A file cannot be removed.
    pub fn collect_garbage(&self) -> Result<(), ImageError> {
        let _lock = self.lock()?;
        self.remove_unreferenced_blobs()
    }

    /// Takes the lock under which blobs and staging directories are added and removed.
    pub(super) fn lock(&self) -> Result<File, ImageError> {
        create_private_directory(&self.root)?;
        let path = self.root.join("lock");
        let lock = files::open_private(&path)?;
        lock.lock().map_err(FileError::new("lock", &path))?;
        Ok(lock)
    }

    /// Opens the file whose lock the build of `reference` holds, and does not lock it.
    pub(super) fn build_lock(
        &self,
        reference: &ImageReference,
    ) -> Result<(File, PathBuf), ImageError> {
        let directory = self.root.join("locks");
        create_private_directory(&directory)?;
        let path = directory.join(format!("{reference}.lock"));
        Ok((files::open_private(&path)?, path))
    }

    /// Returns the log for the output of the build of `reference`.
    pub(super) fn build_log(&self, reference: &ImageReference) -> Result<PathBuf, ImageError> {
        let directory = self.root.join("logs");
        create_private_directory(&directory)?;
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

    /// Returns the parent of the staging directories.
    pub(super) fn staging(&self) -> PathBuf {
        self.root.join("staging")
    }

    /// Removes unreferenced blobs. The caller holds the store's lock.
    fn remove_unreferenced_blobs(&self) -> Result<(), ImageError> {
        for blob in self.unreferenced_blobs()? {
            remove_file_if_present(&blob)?;
        }
        Ok(())
    }

    /// Returns the blobs that no image refers to. An unreadable image keeps all blobs: its blobs
    /// are unknown, and a newer version of this program may still need them.
    pub(super) fn unreferenced_blobs(&self) -> Result<Vec<PathBuf>, ImageError> {
        let mut referenced = BTreeSet::new();
        for entry in self.list()? {
            match entry.image {
                Ok(image) => referenced.extend(image.metadata.file_digests().map(|d| d.hex())),
                Err(_) => return Ok(Vec::new()),
            }
        }
        let blobs = self.blobs();
        let mut names = names_in(&blobs)?;
        names.retain(|name| !referenced.contains(name));
        Ok(names.iter().map(|name| blobs.join(name)).collect())
    }
}

impl Image {
    /// Checks that this program can start the image.
    ///
    /// # Errors
    ///
    /// [`ImageError::OtherContract`].
    pub fn check_contract(&self) -> Result<(), ImageError> {
        match self.metadata.content.contract_version {
            CONTRACT_VERSION => Ok(()),
            found => Err(ImageError::OtherContract {
                name: self.metadata.name.clone(),
                found,
                known: CONTRACT_VERSION,
            }),
        }
    }

    /// Checks that this program can start the image and that its files are the stored ones.
    ///
    /// This takes microseconds while size, modification time and inode of each file are as
    /// recorded. Otherwise it hashes the file, and records these values again if the digest is
    /// right.
    ///
    /// # Errors
    ///
    /// [`ImageError::OtherContract`], or [`ImageError::Corrupt`] for the first file that is
    /// missing, truncated or changed.
    pub fn verify(&self) -> Result<(), ImageError> {
        self.check_contract()?;
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

/// Sets the mode of the file at `path` to 0600 and flushes the file to the disk.
fn synchronize_private(path: &Path) -> Result<(), FileError> {
    use std::os::unix::fs::PermissionsExt as _;
    let synchronize = || -> io::Result<()> {
        let file = File::open(path)?;
        file.set_permissions(fs::Permissions::from_mode(0o600))?;
        file.sync_all()
    };
    synchronize().map_err(FileError::new("synchronize", path))
}

fn missing_after_commit(directory: &Path) -> ImageError {
    FileError::new("read", directory.join("metadata.json"))(io::ErrorKind::NotFound.into()).into()
}

#[cfg(test)]
mod tests;
