//! The contents of the store.

use std::cmp::Reverse;
use std::fs;
use std::path::{Path, PathBuf};

use sandbox_host::files;
use sandbox_host::lock::DirectoryLock;
use sandbox_spec::{KeyPrefix, TemplateKey};

use super::error::{TemplateError, TemplateFault};
use super::metadata::Metadata;
use super::shape::Shape;
use super::store::{
    BUILD_LOCK, BUILD_SHAPE, METADATA, METADATA_LIMIT, PARTIAL_PREFIX, REMOVED_PREFIX,
    TemplateStore,
};

/// One row of [`TemplateStore::list`].
#[derive(Debug)]
pub struct Entry {
    /// Its name.
    pub key: TemplateKey,
    /// Its state.
    pub state: EntryState,
    /// The size of its files on the disk, in bytes.
    pub allocated_bytes: u64,
    /// The time of its last use, or of its build if no start has used it.
    pub last_used: jiff::Timestamp,
}

impl Entry {
    /// Returns the shape of a complete template, or of a build that has recorded it.
    pub fn shape(&self) -> Option<&Shape> {
        match &self.state {
            EntryState::Ready(metadata) => Some(&metadata.shape),
            EntryState::Building { shape, .. } => shape.as_deref(),
            EntryState::Broken(_) => None,
        }
    }
}

/// The state of a template.
#[derive(Debug)]
pub enum EntryState {
    /// A start can restore it.
    Ready(Box<Metadata>),
    /// A process is building it.
    Building {
        /// Its shape; `None` until the build has recorded it.
        shape: Option<Box<Shape>>,
        /// The start of the build.
        since: jiff::Timestamp,
    },
    /// No start can restore it.
    Broken(TemplateFault),
}

/// The directory of an interrupted build or removal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Orphan {
    /// The directory.
    pub path: PathBuf,
    /// Its size on the disk, in bytes.
    pub allocated_bytes: u64,
}

/// Everything in the store.
#[derive(Debug, Default)]
pub struct Survey {
    /// Builds in progress and templates, in this order; the latest use comes first.
    pub entries: Vec<Entry>,
    /// The directories that [`TemplateStore::collect_garbage`] removes.
    pub orphans: Vec<Orphan>,
}

impl TemplateStore {
    /// Returns every template and every build in progress. Changes nothing.
    ///
    /// # Errors
    ///
    /// The store cannot be read.
    pub fn list(&self) -> Result<Vec<Entry>, TemplateError> {
        Ok(self.survey()?.entries)
    }

    /// Returns everything in the store. Changes nothing.
    ///
    /// # Errors
    ///
    /// The store cannot be read.
    pub fn survey(&self) -> Result<Survey, TemplateError> {
        if !self.root().is_dir() {
            return Ok(Survey::default());
        }
        let _lock = self.lock_for_reading()?;
        self.survey_locked()
    }

    /// Returns the entry of the only key in the store that begins with `prefix`.
    ///
    /// # Errors
    ///
    /// [`TemplateError::Unknown`], [`TemplateError::Ambiguous`].
    pub fn resolve(&self, prefix: &KeyPrefix) -> Result<Entry, TemplateError> {
        let mut entries: Vec<Entry> = self.survey()?.entries;
        entries.retain(|entry| prefix.matches(&entry.key));
        let mut candidates: Vec<TemplateKey> = entries.iter().map(|entry| entry.key).collect();
        candidates.sort();
        // A broken template has a second entry while a build replaces it.
        candidates.dedup();
        if candidates.len() > 1 {
            return Err(TemplateError::Ambiguous {
                prefix: prefix.clone(),
                candidates,
            });
        }
        entries
            .into_iter()
            .max_by_key(|entry| matches!(entry.state, EntryState::Ready(_)))
            .ok_or_else(|| TemplateError::Unknown(prefix.clone()))
    }

    /// Returns everything in the store. The caller holds a lock of the store.
    pub(super) fn survey_locked(&self) -> Result<Survey, TemplateError> {
        let mut survey = Survey::default();
        for name in files::names_in(self.root())? {
            let path = self.root().join(&name);
            let allocated_bytes = || files::allocated_bytes(&path);
            if let Ok(key) = name.parse::<TemplateKey>() {
                // An unreadable template must not hide the others.
                let loaded = match self.load(&key) {
                    Ok(Some(loaded)) => loaded,
                    Ok(None) => continue,
                    Err(error) => Err(TemplateFault::Inaccessible(error.to_string())),
                };
                survey.entries.push(Entry {
                    key,
                    state: match loaded {
                        Ok(template) => EntryState::Ready(Box::new(template.metadata)),
                        Err(fault) => EntryState::Broken(fault),
                    },
                    allocated_bytes: allocated_bytes(),
                    last_used: modified(&path.join(METADATA))
                        .or_else(|| modified(&path))
                        .unwrap_or_default(),
                });
            } else if name.starts_with(REMOVED_PREFIX) {
                let allocated_bytes = allocated_bytes();
                survey.orphans.push(Orphan {
                    path,
                    allocated_bytes,
                });
            } else if let Some(key) = name.strip_prefix(PARTIAL_PREFIX) {
                let allocated_bytes = allocated_bytes();
                let lock = path.join(BUILD_LOCK);
                if let Ok(key) = key.parse()
                    && DirectoryLock::is_held(&lock)
                {
                    let since = modified(&lock).unwrap_or_default();
                    survey.entries.push(Entry {
                        key,
                        state: EntryState::Building {
                            shape: read_shape(&path),
                            since,
                        },
                        allocated_bytes,
                        last_used: since,
                    });
                } else {
                    survey.orphans.push(Orphan {
                        path,
                        allocated_bytes,
                    });
                }
            }
        }
        let is_building = |entry: &Entry| matches!(entry.state, EntryState::Building { .. });
        survey
            .entries
            .sort_by_key(|entry| Reverse((is_building(entry), entry.last_used)));
        Ok(survey)
    }
}

fn read_shape(partial: &Path) -> Option<Box<Shape>> {
    let bytes = files::read_if_present(&partial.join(BUILD_SHAPE), METADATA_LIMIT).ok()??;
    serde_json::from_slice(&bytes).ok()
}

/// Returns the modification time of a file.
fn modified(path: &Path) -> Option<jiff::Timestamp> {
    let time = fs::metadata(path).ok()?.modified().ok()?;
    time.try_into().ok()
}
