//! Errors of the template store.

use std::io;
use std::path::PathBuf;

use sandbox_host::files::FileError;
use sandbox_host::hint::Hint;
use sandbox_spec::{KeyPrefix, TemplateKey};

/// A failure of the template store.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    /// A file or directory of the store cannot be used.
    #[error(transparent)]
    File(#[from] FileError),
    /// No template has a key with this prefix.
    #[error("template `{0}` not found")]
    Unknown(KeyPrefix),
    /// Several templates have a key with this prefix.
    #[error(
        "`{prefix}` is ambiguous: it matches the templates {}",
        list(candidates)
    )]
    Ambiguous {
        /// The given prefix.
        prefix: KeyPrefix,
        /// The keys with this prefix.
        candidates: Vec<TemplateKey>,
    },
    /// The disk has too little space for a template.
    #[error(
        "a template needs up to {} MB, but `{}` has {} MB free",
        wanted_bytes / 1_000_000, path.display(), free_bytes / 1_000_000
    )]
    LittleSpace {
        /// The store.
        path: PathBuf,
        /// The free space, in bytes.
        free_bytes: u64,
        /// The space that must be free, in bytes.
        wanted_bytes: u64,
    },
}

impl TemplateError {
    /// Returns the next step for the user.
    pub fn hint(&self) -> Option<Hint> {
        match self {
            Self::File(error) => match error.source.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Some(
                    free_space("the disk is full: ")
                        .then(", or set `SANDBOX_HOME` to a directory on a larger disk"),
                ),
                _ => error.hint(),
            },
            Self::LittleSpace { .. } => Some(free_space("")),
            Self::Unknown(_) => Some(Hint::text("list the templates: ").command("template ls")),
            Self::Ambiguous { .. } => Some("give more digits".into()),
        }
    }
}

/// Returns a hint that begins with `reason` and names the commands that remove data.
fn free_space(reason: &str) -> Hint {
    Hint::text(format!("{reason}remove unused data with "))
        .command("prune")
        .then(", or all templates that no running sandbox uses with ")
        .command("prune --all")
}

/// The reason why no start can use a stored template.
#[derive(Debug, thiserror::Error)]
pub enum TemplateFault {
    /// The record is not JSON of the known form.
    #[error("its record is damaged: {0}")]
    Unreadable(serde_json::Error),
    /// Another version of this program wrote the record.
    #[error("its record has version {0}")]
    OtherVersion(u32),
    /// The shape in the record does not have the key that names the directory.
    #[error("its record belongs to another template")]
    OtherShape,
    /// A file cannot be read; contains the error.
    #[error("{0}")]
    Inaccessible(String),
    /// A file does not exist.
    #[error("`{0}` is missing")]
    Missing(&'static str),
    /// A file has another length than the record says.
    #[error("`{file}` has {found_bytes} bytes instead of {expected_bytes}")]
    WrongLength {
        /// The file.
        file: &'static str,
        /// Length in the record, in bytes.
        expected_bytes: u64,
        /// Length of the file, in bytes.
        found_bytes: u64,
    },
    /// A file has the right length and another content.
    #[error("`{0}` has changed since it was stored")]
    Changed(&'static str),
}

fn list(keys: &[TemplateKey]) -> String {
    let keys: Vec<String> = keys.iter().map(|key| format!("`{key}`")).collect();
    keys.join(", ")
}
