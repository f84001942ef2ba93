//! Edits the allowlist's file. An edit is atomic, excludes other edits and keeps all other lines.

use std::fs::File;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::list::entry;
use super::{AllowList, DEFAULT, FILE, Fault};
use sandbox_host::files::{
    FileError, create_private_directory, read_whole_if_present, write_private,
};
use sandbox_spec::domain::DomainPattern;

/// The most bytes of an allowlist that are read.
pub(super) const LARGEST: u64 = 4 << 20;

/// The comment of entries for hosts to which anyone can upload data.
pub const OPEN_TO_UPLOADS: &str = "anyone can upload";

/// An entry of the allowlist with its line and comment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ListedEntry {
    /// The names that it allows.
    pub pattern: DomainPattern,
    /// The line number, from 1.
    pub line: usize,
    /// The comment of the line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
}

/// The outcome of adding a pattern.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "outcome")]
pub enum Added {
    /// The allowlist now contains it.
    New {
        /// The pattern.
        pattern: DomainPattern,
    },
    /// An entry already allows it.
    Already {
        /// The pattern.
        pattern: DomainPattern,
        /// The entry.
        by: DomainPattern,
    },
}

/// The outcome of removing a pattern.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "outcome")]
pub enum Removed {
    /// The entry was removed, and no other entry allows the pattern.
    Gone {
        /// The pattern.
        pattern: DomainPattern,
    },
    /// Another entry still allows the pattern.
    StillAllowed {
        /// The pattern.
        pattern: DomainPattern,
        /// The other entry.
        by: DomainPattern,
    },
    /// The allowlist does not contain the entry.
    NotListed {
        /// The pattern.
        pattern: DomainPattern,
    },
}

/// The allowlist file of one sandbox.
#[derive(Debug, Clone)]
pub struct ListFile {
    path: PathBuf,
}

impl ListFile {
    /// Returns the allowlist of a sandbox's proxy directory.
    pub fn in_directory(directory: &Path) -> Self {
        Self {
            path: directory.join(FILE),
        }
    }

    /// Returns the path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes the default allowlist if the file is missing. Returns true if it did.
    ///
    /// # Errors
    /// If the directory or the file cannot be written.
    pub fn create_if_absent(&self) -> Result<bool, FileError> {
        let _lock = self.lock()?;
        if self.path.exists() {
            return Ok(false);
        }
        write_private(&self.path, DEFAULT.as_bytes())?;
        Ok(true)
    }

    /// Replaces the allowlist with the default one.
    ///
    /// # Errors
    /// If the directory or the file cannot be written.
    pub fn reset(&self) -> Result<(), FileError> {
        let _lock = self.lock()?;
        write_private(&self.path, DEFAULT.as_bytes())
    }

    /// Returns the entries and the invalid lines. If the file is missing, these are the defaults.
    ///
    /// # Errors
    /// If the file exists and cannot be read.
    pub fn entries(&self) -> Result<(Vec<ListedEntry>, Vec<Fault>), FileError> {
        let text = self.text()?;
        let mut entries = Vec::new();
        let mut faults = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let number = index + 1;
            match entry(line) {
                None => {}
                Some(Ok(pattern)) => entries.push(ListedEntry {
                    pattern,
                    line: number,
                    comment: line
                        .split_once('#')
                        .map(|(_, comment)| comment.trim().to_owned()),
                }),
                Some(Err(error)) => faults.push(Fault {
                    line: number,
                    error,
                }),
            }
        }
        Ok((entries, faults))
    }

    /// Appends the patterns that the allowlist does not already allow.
    ///
    /// # Errors
    /// If the file cannot be read or written.
    pub fn add(&self, patterns: &[DomainPattern]) -> Result<Vec<Added>, FileError> {
        let _lock = self.lock()?;
        let mut text = self.text()?;
        let mut outcomes = Vec::new();
        for pattern in patterns {
            let by = covering(&AllowList::parse(&text), pattern);
            outcomes.push(match by {
                Some(by) => Added::Already {
                    pattern: pattern.clone(),
                    by,
                },
                None => {
                    if !text.is_empty() && !text.ends_with('\n') {
                        text.push('\n');
                    }
                    text.push_str(&format!("{pattern}\n"));
                    Added::New {
                        pattern: pattern.clone(),
                    }
                }
            });
        }
        write_private(&self.path, text.as_bytes())?;
        Ok(outcomes)
    }

    /// Removes the lines of these patterns.
    ///
    /// # Errors
    /// If the file cannot be read or written.
    pub fn remove(&self, patterns: &[DomainPattern]) -> Result<Vec<Removed>, FileError> {
        let _lock = self.lock()?;
        let text = self.text()?;
        let is_listed = |pattern| text.lines().any(|line| is_entry_for(line, pattern));
        let rest: String = text
            .split_inclusive('\n')
            .filter(|line| !patterns.iter().any(|pattern| is_entry_for(line, pattern)))
            .collect();
        let list = AllowList::parse(&rest);
        let outcomes = patterns
            .iter()
            .map(|pattern| match covering(&list, pattern) {
                Some(by) => Removed::StillAllowed {
                    pattern: pattern.clone(),
                    by,
                },
                None if is_listed(pattern) => Removed::Gone {
                    pattern: pattern.clone(),
                },
                None => Removed::NotListed {
                    pattern: pattern.clone(),
                },
            })
            .collect();
        write_private(&self.path, rest.as_bytes())?;
        Ok(outcomes)
    }

    fn text(&self) -> Result<String, FileError> {
        Ok(match read_whole_if_present(&self.path, LARGEST)? {
            Some(content) => String::from_utf8_lossy(&content).into_owned(),
            None => DEFAULT.into(),
        })
    }

    /// Locks the allowlist for an edit. The lock is a separate file, because an edit replaces the
    /// allowlist.
    fn lock(&self) -> Result<File, FileError> {
        let directory = self.path.parent().unwrap_or(Path::new("/"));
        create_private_directory(directory)?;
        let path = self.path.with_extension("lock");
        let lock = || {
            let file = File::options()
                .create(true)
                .truncate(false)
                .write(true)
                .open(&path)?;
            file.lock()?;
            Ok(file)
        };
        lock().map_err(FileError::new("lock the allowlist with", &path))
    }
}

fn is_entry_for(line: &str, pattern: &DomainPattern) -> bool {
    matches!(entry(line), Some(Ok(found)) if found == *pattern)
}

/// Returns the entry that allows all names of the pattern.
fn covering(list: &AllowList, pattern: &DomainPattern) -> Option<DomainPattern> {
    if let Some(same) = list.patterns().iter().find(|entry| *entry == pattern) {
        return Some(same.clone());
    }
    match pattern {
        DomainPattern::Exact(name) => list.find(name).cloned(),
        DomainPattern::Below(name) => {
            let tree = DomainPattern::Tree(name.clone());
            list.patterns()
                .iter()
                .find(|entry| **entry == tree)
                .cloned()
        }
        DomainPattern::Tree(_) | DomainPattern::Expression(_) => None,
    }
}
