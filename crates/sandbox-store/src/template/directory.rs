//! The directory of one template, made or in the making.

use std::ops::Deref;
use std::path::{Path, PathBuf};

pub(super) const RAM: &str = "ram";
pub(super) const STATE: &str = "state";
pub(super) const DISK: &str = "disk.qcow2";

/// A directory of the store, and where a template's files lie in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TemplateDirectory(PathBuf);

impl TemplateDirectory {
    pub(super) fn new(path: PathBuf) -> Self {
        Self(path)
    }

    /// The guest's memory.
    pub fn ram(&self) -> PathBuf {
        self.join(RAM)
    }

    /// The devices' state.
    pub fn state(&self) -> PathBuf {
        self.join(STATE)
    }

    /// The disk layer, a qcow2 file on the base image: a sandbox's overlay lies on it.
    pub fn disk(&self) -> PathBuf {
        self.join(DISK)
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
