//! What lies in the store.

use std::fs;
use std::path::{Path, PathBuf};

use super::error::{TemplateError, TemplateFault};
use super::metadata::Metadata;
use super::shape::Shape;
use super::store::{
    BUILD_LOCK, BUILD_SHAPE, METADATA, METADATA_LIMIT, PARTIAL_PREFIX, REMOVED_PREFIX, StoreLock,
    TemplateStore,
};
use sandbox_host::files;
use sandbox_host::lock::DirectoryLock;
use sandbox_spec::{KeyPrefix, TemplateKey};

/// One row of [`TemplateStore::list`].
#[derive(Debug)]
pub struct Entry {
    /// Its name.
    pub key: TemplateKey,
    /// What it is, or is becoming.
    pub state: EntryState,
    /// What its files take on the disk, in bytes.
    pub allocated_bytes: u64,
    /// When a start last used it; when it was made, if none has.
    pub last_used: jiff::Timestamp,
}

impl Entry {
    /// What it is for, as far as that can be told.
    pub fn shape(&self) -> Option<&Shape> {
        match &self.state {
            EntryState::Ready(metadata) => Some(&metadata.shape),
            EntryState::Building { shape, .. } => shape.as_deref(),
            EntryState::Broken(_) => None,
        }
    }
}

/// Where a template is in its life.
#[derive(Debug)]
pub enum EntryState {
    /// Can be restored.
    Ready(Box<Metadata>),
    /// Is being made by some process.
    Building {
        /// What for; nothing in its first moment.
        shape: Option<Box<Shape>>,
        /// Since when.
        since: jiff::Timestamp,
    },
    /// Cannot be used, and why.
    Broken(TemplateFault),
}

/// What a build or a removal that was cut short has left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leftover {
    /// The directory.
    pub path: PathBuf,
    /// What it takes on the disk, in bytes.
    pub allocated_bytes: u64,
}

/// All that lies in the store.
#[derive(Debug, Default)]
pub struct Survey {
    /// Templates and builds at work; what is being built comes first, then the last used.
    pub entries: Vec<Entry>,
    /// What the next [`TemplateStore::sweep`] removes.
    pub leftovers: Vec<Leftover>,
}

impl TemplateStore {
    /// Every template and every build at work, after a [`TemplateStore::sweep`].
    ///
    /// # Errors
    ///
    /// The store cannot be read.
    pub fn list(&self) -> Result<Vec<Entry>, TemplateError> {
        self.sweep()?;
        Ok(self.survey()?.entries)
    }

    /// Looks at all that lies in the store and changes nothing.
    ///
    /// # Errors
    ///
    /// The store cannot be read.
    pub fn survey(&self) -> Result<Survey, TemplateError> {
        match self.lock_if_present()? {
            Some(lock) => self.survey_locked(&lock),
            None => Ok(Survey::default()),
        }
    }

    /// The one key in the store that begins with `prefix`.
    ///
    /// # Errors
    ///
    /// [`TemplateError::Unknown`], [`TemplateError::Ambiguous`].
    pub fn resolve(&self, prefix: &KeyPrefix) -> Result<Entry, TemplateError> {
        let mut entries: Vec<Entry> = self.survey()?.entries;
        entries.retain(|entry| prefix.matches(&entry.key));
        let mut candidates: Vec<TemplateKey> = entries.iter().map(|entry| entry.key).collect();
        candidates.sort();
        // A template that is being made anew while a broken one lies there has two entries.
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

    pub(super) fn survey_locked(&self, _lock: &StoreLock) -> Result<Survey, TemplateError> {
        let mut survey = Survey::default();
        for name in files::names_in(self.root())? {
            let path = self.root().join(&name);
            let allocated_bytes = || files::allocated_bytes(&path);
            if let Ok(key) = name.parse::<TemplateKey>() {
                // One that cannot be read does not hide the others.
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
                    last_used: changed(&path.join(METADATA))
                        .or_else(|| changed(&path))
                        .unwrap_or_default(),
                });
            } else if name.starts_with(REMOVED_PREFIX) {
                let allocated_bytes = allocated_bytes();
                survey.leftovers.push(Leftover {
                    path,
                    allocated_bytes,
                });
            } else if let Some(key) = name.strip_prefix(PARTIAL_PREFIX) {
                let allocated_bytes = allocated_bytes();
                let lock = path.join(BUILD_LOCK);
                if let Ok(key) = key.parse()
                    && DirectoryLock::is_held(&lock)
                {
                    let since = changed(&lock).unwrap_or_default();
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
                    survey.leftovers.push(Leftover {
                        path,
                        allocated_bytes,
                    });
                }
            }
        }
        let is_ready = |entry: &Entry| !matches!(entry.state, EntryState::Building { .. });
        survey
            .entries
            .sort_by_key(|entry| (is_ready(entry), std::cmp::Reverse(entry.last_used)));
        Ok(survey)
    }
}

fn read_shape(partial: &Path) -> Option<Box<Shape>> {
    let bytes = files::read_if_present(&partial.join(BUILD_SHAPE), METADATA_LIMIT).ok()??;
    serde_json::from_slice(&bytes).ok()
}

/// The time of the last change of a file.
fn changed(path: &Path) -> Option<jiff::Timestamp> {
    let time = fs::metadata(path).ok()?.modified().ok()?;
    time.try_into().ok()
}
