//! Loading of the kernel modules that the image's builder put into the initrd.
//!
//! The kernel loads a module on the processor of the thread that asks
//! (relocations, the check of the signature), which is most of init's time on
//! an emulated processor; so two threads share the list.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::{fs, io};

use rustix::io::Errno;

use crate::module_info;

/// Holds the modules, decompressed, and [`ORDER`].
pub(crate) const DIRECTORY: &str = "/modules";

/// Lists the file names in [`DIRECTORY`], dependencies first, one a line.
const ORDER: &str = "load-order";

/// Why the modules could not be loaded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ModuleError {
    /// The list or a module is missing: the initrd was put together wrongly.
    #[error("could not read `{path}`")]
    Read { path: PathBuf, source: io::Error },
    /// The kernel refused the module; it may belong to another kernel.
    #[error("could not load the kernel module `{file}`")]
    Load { file: String, source: Errno },
}

/// The modules of the initrd, and how far their loading is.
#[derive(Debug)]
pub(crate) struct Modules {
    files: Vec<String>,
    progress: Mutex<Progress>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Progress {
    /// How many modules of the list have been taken by some thread.
    taken: usize,
    /// Names of those that are loaded or have failed: nobody waits for them.
    settled: BTreeSet<String>,
}

impl Modules {
    /// Reads the list.
    pub(crate) fn list() -> Result<Self, ModuleError> {
        let order = Path::new(DIRECTORY).join(ORDER);
        match fs::read_to_string(&order) {
            Ok(text) => Ok(Self::new(&text)),
            Err(source) => Err(ModuleError::Read {
                path: order,
                source,
            }),
        }
    }

    fn new(order: &str) -> Self {
        Self {
            files: order.split_ascii_whitespace().map(str::to_owned).collect(),
            progress: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    /// Loads modules until the one named `last` and all before it are loaded,
    /// or until none is left. Meant to be called by several threads at once.
    pub(crate) fn load_through(&self, last: &str) -> Result<(), ModuleError> {
        let end = self.files.iter().position(|file| name(file) == last);
        let end = end.map_or(self.files.len(), |index| index + 1);
        while let Some(file) = self.take(end) {
            let result = self.load(file);
            self.lock().settled.insert(name(file));
            self.changed.notify_all();
            result?;
        }
        self.wait_for(self.files[..end].iter().map(|file| name(file)).collect());
        Ok(())
    }

    /// Loads all modules.
    pub(crate) fn load_all(&self) -> Result<(), ModuleError> {
        self.load_through("")
    }

    /// The next module before `end` that no thread has taken yet.
    fn take(&self, end: usize) -> Option<&str> {
        let mut progress = self.lock();
        let file = self.files[..end].get(progress.taken)?;
        progress.taken += 1;
        Some(file)
    }

    /// Loads one module once those that it needs are there. A module that is
    /// loaded already, or whose device this machine lacks, is no error.
    fn load(&self, file: &str) -> Result<(), ModuleError> {
        let path = Path::new(DIRECTORY).join(file);
        let image = fs::read(&path).map_err(|source| ModuleError::Read { path, source })?;
        self.wait_for(self.listed(module_info::needs(&image)));
        match rustix::system::init_module(&image, c"") {
            Ok(()) | Err(Errno::EXIST | Errno::NODEV) => Ok(()),
            Err(source) => Err(ModuleError::Load {
                file: file.to_owned(),
                source,
            }),
        }
    }

    /// Those of `names` that are in the list; others are built into the kernel.
    fn listed(&self, mut names: Vec<String>) -> Vec<String> {
        names.retain(|needed| self.files.iter().any(|file| name(file) == *needed));
        names
    }

    /// Waits until other threads are done with all these modules. They come
    /// before the caller's own in the list, so nobody waits in a circle.
    fn wait_for(&self, names: Vec<String>) {
        let mut progress = self.lock();
        while !names.iter().all(|name| progress.settled.contains(name)) {
            progress = self
                .changed
                .wait(progress)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// A thread that panics takes the whole program along (`panic = "abort"`).
    fn lock(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The module's name: that of its file without suffix, `_` for `-`.
fn name(file: &str) -> String {
    file.trim_end_matches(".ko").replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_are_taken_in_order_up_to_the_end() {
        let modules = Modules::new("crc16.ko\next4.ko\n\nvirtio-rng.ko\n");
        assert_eq!(modules.take(2), Some("crc16.ko"));
        assert_eq!(modules.take(2), Some("ext4.ko"));
        assert_eq!(modules.take(2), None);
        assert_eq!(modules.take(3), Some("virtio-rng.ko"));
        assert_eq!(modules.take(3), None);
    }

    #[test]
    fn only_listed_modules_are_waited_for() {
        let modules = Modules::new("virtio-rng.ko\n");
        let needs = ["virtio_rng", "libcrc32c"].map(str::to_owned).to_vec();
        assert_eq!(modules.listed(needs), ["virtio_rng"]);
    }

    #[test]
    fn a_thread_waits_for_what_another_loads() {
        let modules = Modules::new("a.ko b.ko");
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| {
                modules.wait_for(vec!["a".to_owned()]);
                modules.lock().settled.clone()
            });
            modules.lock().settled.insert("a".to_owned());
            modules.changed.notify_all();
            assert!(waiting.join().unwrap().contains("a"));
        });
    }

    #[test]
    fn a_missing_file_is_named() {
        let modules = Modules::new("no-such-module.ko");
        let error = modules.load_all().unwrap_err();
        assert_eq!(
            error.to_string(),
            "could not read `/modules/no-such-module.ko`"
        );
    }
}
