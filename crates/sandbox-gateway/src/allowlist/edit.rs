//! Editing the list's file: in one step, one editor at a time, everything else of it kept.

use std::fs::File;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::list::entry;
use super::{AllowList, DEFAULT, FILE, Fault};
use sandbox_host::files::{
    FileError, create_private_directory, read_whole_if_present, write_private,
};
use sandbox_spec::domain::DomainPattern;

/// The most bytes of a list that are read.
pub(super) const LARGEST: u64 = 4 << 20;

/// The comment that marks hosts on which everybody can store data.
pub const OPEN_TO_UPLOADS: &str = "anyone can upload";

/// One entry of a list, with what stands beside it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ListedEntry {
    /// The names.
    pub pattern: DomainPattern,
    /// The line's number, from 1.
    pub line: usize,
    /// The line's comment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
}

/// What became of a pattern that should be added.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "outcome")]
pub enum Added {
    /// It is on the list now.
    New {
        /// The pattern.
        pattern: DomainPattern,
    },
    /// An entry allows it already.
    Already {
        /// The pattern.
        pattern: DomainPattern,
        /// The entry.
        by: DomainPattern,
    },
}

/// What became of a pattern that should be removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "outcome")]
pub enum Removed {
    /// It is gone, and allowed by nothing else.
    Gone {
        /// The pattern.
        pattern: DomainPattern,
    },
    /// It is no entry, or no longer, but another entry still allows it.
    StillAllowed {
        /// The pattern.
        pattern: DomainPattern,
        /// The other entry.
        by: DomainPattern,
    },
    /// It is no entry.
    NotListed {
        /// The pattern.
        pattern: DomainPattern,
    },
}

/// The list's file of one sandbox.
#[derive(Debug, Clone)]
pub struct ListFile {
    path: PathBuf,
}

impl ListFile {
    /// The list in a sandbox's proxy directory.
    pub fn in_directory(directory: &Path) -> Self {
        Self {
            path: directory.join(FILE),
        }
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes the default list where there is none; true if it did.
    ///
    /// # Errors
    /// Where the directory or the file cannot be written.
    pub fn create_if_absent(&self) -> Result<bool, FileError> {
        let _lock = self.lock()?;
        if self.path.exists() {
            return Ok(false);
        }
        write_private(&self.path, DEFAULT.as_bytes())?;
        Ok(true)
    }

    /// Brings the default list back.
    ///
    /// # Errors
    /// Where the directory or the file cannot be written.
    pub fn reset(&self) -> Result<(), FileError> {
        let _lock = self.lock()?;
        write_private(&self.path, DEFAULT.as_bytes())
    }

    /// The entries and the lines that cannot be read; the default ones where there is no file.
    ///
    /// # Errors
    /// Where the file is there and cannot be read.
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

    /// Adds patterns at the end of the list, but those that it allows already.
    ///
    /// # Errors
    /// Where the file cannot be read or written.
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
    /// Where the file cannot be read or written.
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

    /// Held while the file is read and replaced; a file of its own, since the list is replaced.
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
        lock().map_err(FileError::new("lock the allowlist by", &path))
    }
}

fn is_entry_for(line: &str, pattern: &DomainPattern) -> bool {
    matches!(entry(line), Some(Ok(found)) if found == *pattern)
}

/// The entry of the list that allows all that the pattern does.
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
