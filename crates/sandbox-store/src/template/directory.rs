//! The directory of one template or of one build.

use std::ops::Deref;
use std::path::{Path, PathBuf};

pub(super) const RAM: &str = "ram";
pub(super) const STATE: &str = "state";
pub(super) const DISK: &str = "disk.qcow2";
const WORKING_SET: &str = "working-set.json";

/// A directory with the files of one template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TemplateDirectory(PathBuf);

impl TemplateDirectory {
    pub(super) fn new(path: PathBuf) -> Self {
        Self(path)
    }

    /// Returns the file of the guest's memory.
    pub fn ram(&self) -> PathBuf {
        self.join(RAM)
    }

    /// Returns the file of the device state.
    pub fn state(&self) -> PathBuf {
        self.join(STATE)
    }

    /// Returns the disk layer: a qcow2 file on the base image's disk, and the base of the overlays
    /// of sandboxes.
    pub fn disk(&self) -> PathBuf {
        self.join(DISK)
    }

    /// Returns the file of the pages that a start touches. A template may lack it.
    pub fn working_set(&self) -> PathBuf {
        self.join(WORKING_SET)
    }
}

impl Deref for TemplateDirectory {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.0
    }
}

impl AsRef<Path> for TemplateDirectory {
    fn as_ref(&self) -> &Path {
        &self.0
    }
}
