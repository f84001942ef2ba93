//! Disks that contain only the differences from a base below them: qcow2 files with a backing file
//! (QEMU `docs/interop/qcow2.rst`).

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

use imago::file::File as ImageFile;
use imago::qcow2::Qcow2CreateBuilder;
use imago::{FormatCreateBuilder, Storage, StorageCreateOptions};
use sandbox_host::files::is_same_file;
use sandbox_host::hint::Hint;

/// An overlay could not be created.
#[derive(Debug, thiserror::Error)]
#[error("could not create the disk overlay `{}`", path.display())]
pub struct OverlayError {
    /// The overlay's path.
    pub path: PathBuf,
    /// The cause.
    #[source]
    pub source: io::Error,
}

impl OverlayError {
    /// Returns the next step for the user.
    pub fn hint(&self) -> Option<Hint> {
        (self.source.kind() == io::ErrorKind::StorageFull).then(|| {
            "the disk is full: free space there, or set `SANDBOX_HOME` to a directory on a larger disk"
                .into()
        })
    }
}

/// Creates an overlay of `size_bytes` (a multiple of 512) on the qcow2 file `base`.
///
/// The overlay records `base` as it is given: as an absolute path, or relative to the overlay's
/// directory.
///
/// # Errors
///
/// The overlay cannot be written.
pub fn create(path: &Path, base: &Path, size_bytes: u64) -> Result<(), OverlayError> {
    let create = || -> io::Result<()> {
        let file = ImageFile::create_open(StorageCreateOptions::new().filename(path))?;
        fs::set_permissions(path, Permissions::from_mode(0o600))?;
        Qcow2CreateBuilder::<ImageFile>::new(file)
            .size(size_bytes)
            .backing(base.to_string_lossy().into_owned(), "qcow2".into())
            .create()
    };
    create().map_err(|source| OverlayError {
        path: path.into(),
        source,
    })
}

/// Creates an overlay as [`create`] does, and records `base` relative to the overlay's directory.
/// So a copy of a directory that contains both finds its own base.
///
/// QEMU and qemu-img resolve a relative name from the overlay's directory. Where it would not
/// reach `base`, because of symbolic links, the overlay records `base` itself.
///
/// # Errors
///
/// The overlay cannot be written.
pub fn create_relocatable(path: &Path, base: &Path, size_bytes: u64) -> Result<(), OverlayError> {
    let relative = path
        .parent()
        .and_then(|directory| relative_name(directory, base));
    create(path, relative.as_deref().unwrap_or(base), size_bytes)
}

/// Returns the name of `base` relative to `directory`, if it leads to the same file.
fn relative_name(directory: &Path, base: &Path) -> Option<PathBuf> {
    let shared = directory
        .components()
        .zip(base.components())
        .take_while(|(one, other)| one == other)
        .count();
    let up = directory
        .components()
        .skip(shared)
        .map(|_| Component::ParentDir);
    let name: PathBuf = up.chain(base.components().skip(shared)).collect();
    let reached = fs::metadata(directory.join(&name)).ok()?;
    is_same_file(&reached, &fs::metadata(base).ok()?).then_some(name)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use serde_json::Value;

    use super::*;

    const SIZE_BYTES: u64 = 1 << 20;

    /// Creates a store with a base and the layer of a template on it. Like a build, it writes the
    /// layer under another name and renames it at the end.
    fn make_store(root: &Path) {
        let (blobs, partial) = (root.join("blobs/sha256"), root.join("templates/.partial"));
        fs::create_dir_all(&blobs).unwrap();
        fs::create_dir_all(&partial).unwrap();
        let base = blobs.join("base");
        let file = ImageFile::create_open(StorageCreateOptions::new().filename(&base)).unwrap();
        Qcow2CreateBuilder::<ImageFile>::new(file)
            .size(SIZE_BYTES)
            .create()
            .unwrap();
        create_relocatable(&partial.join("disk.qcow2"), &base, SIZE_BYTES).unwrap();
        fs::rename(&partial, root.join("templates/key")).unwrap();
    }

    /// Opens `path` as QEMU does and returns the files of its backing chain.
    fn chain(path: &Path) -> Vec<PathBuf> {
        let output = Command::new("qemu-img")
            .args(["info", "--backing-chain", "--output=json", "--image-opts"])
            .arg(format!(
                "driver=qcow2,file.driver=file,file.filename={},file.discard=unmap",
                path.display()
            ))
            .output()
            .unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{errors}");
        let layers: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
        layers
            .iter()
            .map(|layer| {
                let children = layer["children"].as_array().unwrap();
                let file = children.iter().find(|child| child["name"] == "file");
                let name = file.unwrap()["info"]["filename"].as_str().unwrap();
                fs::canonicalize(name).unwrap()
            })
            .collect()
    }

    #[test]
    fn relocatable_overlay_in_a_moved_store_finds_its_base() {
        let directory = tempfile::tempdir().unwrap();
        let directory = fs::canonicalize(directory.path()).unwrap();
        let (first, second) = (directory.join("first"), directory.join("deeper/second"));
        make_store(&first);
        let expected =
            |root: &Path| ["templates/key/disk.qcow2", "blobs/sha256/base"].map(|n| root.join(n));
        assert_eq!(
            chain(&first.join("templates/key/disk.qcow2")),
            expected(&first)
        );

        fs::create_dir(directory.join("deeper")).unwrap();
        fs::rename(&first, &second).unwrap();
        let layer = second.join("templates/key/disk.qcow2");
        assert_eq!(chain(&layer), expected(&second));

        // A sandbox's overlay names the template's layer by its absolute path.
        let overlay = directory.join("overlay.qcow2");
        create(&overlay, &layer, SIZE_BYTES).unwrap();
        let mut whole = vec![overlay.clone()];
        whole.extend(expected(&second));
        assert_eq!(chain(&overlay), whole);
    }

    #[test]
    fn relocatable_overlay_behind_a_symbolic_link_records_an_absolute_base() {
        let directory = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(directory.path()).unwrap();
        let (store, elsewhere) = (root.join("store"), root.join("elsewhere/deeper"));
        fs::create_dir_all(&elsewhere).unwrap();
        fs::create_dir(&store).unwrap();
        std::os::unix::fs::symlink(&elsewhere, store.join("templates")).unwrap();
        make_store(&store);
        let layer = elsewhere.join("key/disk.qcow2");
        assert_eq!(chain(&layer), [layer, store.join("blobs/sha256/base")]);
    }

    #[test]
    fn relative_name_climbs_to_the_shared_directory() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        fs::create_dir_all(root.join("a/b")).unwrap();
        fs::write(root.join("base"), "").unwrap();
        let name = |from: &str, to: &str| relative_name(&root.join(from), &root.join(to));
        assert_eq!(name("a/b", "base"), Some("../../base".into()));
        assert_eq!(name("", "base"), Some("base".into()));
        assert_eq!(name("a/b", "missing"), None);
    }
}
