//! Loads the kernel modules of the initrd.
//!
//! The kernel relocates a module and checks its signature on the processor of
//! the thread that loads it. On an emulated processor this is most of init's
//! time, so two threads share the list.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::{fs, io};

use rustix::io::Errno;

use crate::module_info;

/// The directory of the decompressed modules and of [`ORDER`].
pub(crate) const DIRECTORY: &str = "/modules";

/// The file that lists the modules, one file name a line, dependencies first.
const ORDER: &str = "load-order";

/// A module that could not be loaded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ModuleError {
    /// The initrd lacks the list or a module.
    #[error("could not read `{path}`")]
    Read { path: PathBuf, source: io::Error },
    /// The kernel refused the module. It may belong to another kernel version.
    #[error("could not load the kernel module `{file}`")]
    Load { file: String, source: Errno },
}

/// The modules of the initrd and the progress of loading them.
#[derive(Debug)]
pub(crate) struct Modules {
    files: Vec<String>,
    progress: Mutex<Progress>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Progress {
    /// The number of modules that a thread has claimed, from the start of the
    /// list.
    claimed: usize,
    /// The names of modules that have been loaded or have failed.
    finished: BTreeSet<String>,
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

    /// Loads the modules up to the one named `last`, or all if there is none.
    /// Several threads can call this at once and share the work.
    pub(crate) fn load_through(&self, last: &str) -> Result<(), ModuleError> {
        let end = self.files.iter().position(|file| name(file) == last);
        let end = end.map_or(self.files.len(), |index| index + 1);
        while let Some(file) = self.claim(end) {
            let result = self.load(file);
            self.lock().finished.insert(name(file));
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

    /// Claims the next unclaimed module before `end`.
    fn claim(&self, end: usize) -> Option<&str> {
        let mut progress = self.lock();
        let file = self.files[..end].get(progress.claimed)?;
        progress.claimed += 1;
        Some(file)
    }

    /// Loads one module after its dependencies (init_module(2)). Accepts a module
    /// that is already loaded, and one whose device this machine lacks.
    fn load(&self, file: &str) -> Result<(), ModuleError> {
        let path = Path::new(DIRECTORY).join(file);
        let image = fs::read(&path).map_err(|source| ModuleError::Read { path, source })?;
        self.wait_for(self.listed(module_info::dependencies(&image)));
        match rustix::system::init_module(&image, c"") {
            Ok(()) | Err(Errno::EXIST | Errno::NODEV) => Ok(()),
            Err(source) => Err(ModuleError::Load {
                file: file.to_owned(),
                source,
            }),
        }
    }

    /// Returns the `names` that are in the list. The others are built into the
    /// kernel.
    fn listed(&self, mut names: Vec<String>) -> Vec<String> {
        names.retain(|wanted| self.files.iter().any(|file| name(file) == *wanted));
        names
    }

    /// Waits until other threads have finished these modules. A thread waits only for modules
    /// before its own in the list, so a deadlock is impossible.
    fn wait_for(&self, names: Vec<String>) {
        let mut progress = self.lock();
        while !names.iter().all(|name| progress.finished.contains(name)) {
            progress = self
                .changed
                .wait(progress)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Ignores poisoning: a panic aborts the program (`panic = "abort"`).
    fn lock(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the kernel's name of a module: the file name without suffix, with
/// `_` for `-`.
fn name(file: &str) -> String {
    file.trim_end_matches(".ko").replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claim_returns_modules_in_order_up_to_the_end() {
        let modules = Modules::new("crc16.ko\next4.ko\n\nvirtio-rng.ko\n");
        assert_eq!(modules.claim(2), Some("crc16.ko"));
        assert_eq!(modules.claim(2), Some("ext4.ko"));
        assert_eq!(modules.claim(2), None);
        assert_eq!(modules.claim(3), Some("virtio-rng.ko"));
        assert_eq!(modules.claim(3), None);
    }

    #[test]
    fn listed_drops_modules_that_are_not_in_the_list() {
        let modules = Modules::new("virtio-rng.ko\n");
        let dependencies = ["virtio_rng", "libcrc32c"].map(str::to_owned).to_vec();
        assert_eq!(modules.listed(dependencies), ["virtio_rng"]);
    }

    #[test]
    fn wait_for_returns_after_another_thread_has_loaded_the_module() {
        let modules = Modules::new("a.ko b.ko");
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| {
                modules.wait_for(vec!["a".to_owned()]);
                modules.lock().finished.clone()
            });
            modules.lock().finished.insert("a".to_owned());
            modules.changed.notify_all();
            assert!(waiting.join().unwrap().contains("a"));
        });
    }

    #[test]
    fn load_all_names_a_missing_file() {
        let modules = Modules::new("no-such-module.ko");
        let error = modules.load_all().unwrap_err();
        assert_eq!(
            error.to_string(),
            "could not read `/modules/no-such-module.ko`"
        );
    }
}
