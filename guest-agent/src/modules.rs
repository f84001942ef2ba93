//! Loading of the kernel modules that the image's builder put into the initrd.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

/// Holds the modules, decompressed, and [`ORDER`].
pub(crate) const DIRECTORY: &str = "/modules";

/// Lists the file names in [`DIRECTORY`], dependencies first, one a line.
const ORDER: &str = "load-order";

/// Loaded only when the kernel command line asks for it.
const FW_CFG: &str = "qemu_fw_cfg.ko";

/// Why the modules could not be loaded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ModuleError {
    /// The list of modules is missing: the initrd was put together wrongly.
    #[error("cannot read the list of modules `{path}`")]
    ReadOrder { path: PathBuf, source: io::Error },
    /// A listed file is missing.
    #[error("cannot open the module `{path}`")]
    Open { path: PathBuf, source: io::Error },
    /// The kernel refused the module; it may belong to another kernel.
    #[error("the kernel refused the module `{path}`")]
    Load { path: PathBuf, source: Errno },
}

/// The modules to load out of the text of [`ORDER`].
fn wanted(order: &str, fw_cfg: bool) -> impl Iterator<Item = &str> {
    order
        .lines()
        .map(str::trim)
        .filter(move |name| !name.is_empty() && (fw_cfg || *name != FW_CFG))
}

/// Loads all modules in their order. A module that is loaded already, or whose
/// device is absent from this machine, is no error.
pub(crate) fn load(fw_cfg: bool) -> Result<(), ModuleError> {
    let order = Path::new(DIRECTORY).join(ORDER);
    let names = fs::read_to_string(&order).map_err(|source| ModuleError::ReadOrder {
        path: order,
        source,
    })?;
    for name in wanted(&names, fw_cfg) {
        let path = Path::new(DIRECTORY).join(name);
        let file = File::open(&path).map_err(|source| ModuleError::Open {
            path: path.clone(),
            source,
        })?;
        match rustix::system::finit_module(file, c"", 0) {
            Ok(()) | Err(Errno::EXIST | Errno::NODEV) => {}
            Err(source) => return Err(ModuleError::Load { path, source }),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::wanted;

    #[test]
    fn fw_cfg_is_loaded_only_when_asked_for() {
        let order = "virtio_blk.ko\n\nqemu_fw_cfg.ko\next4.ko\n";
        let with: Vec<_> = wanted(order, true).collect();
        let without: Vec<_> = wanted(order, false).collect();
        assert_eq!(with, ["virtio_blk.ko", "qemu_fw_cfg.ko", "ext4.ko"]);
        assert_eq!(without, ["virtio_blk.ko", "ext4.ko"]);
    }
}
