//! What can go wrong with the template store.

use sandbox_host::hint::Hint;
use std::io;

use sandbox_host::files::FileError;
use sandbox_spec::{KeyPrefix, TemplateKey};

/// A failure of the template store.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    /// A file or directory of the store could not be used.
    #[error(transparent)]
    File(#[from] FileError),
    /// No template has a key that begins so.
    #[error("no template `{0}` is stored")]
    Unknown(KeyPrefix),
    /// Several have.
    #[error("`{prefix}` may be any of the templates {}", list(candidates))]
    Ambiguous {
        /// What was given.
        prefix: KeyPrefix,
        /// The keys that begin so.
        candidates: Vec<TemplateKey>,
    },
    /// Too little space to make a template, with some left for everything else.
    #[error(
        "a template takes up to {} MB and only {} MB are free in `{}`",
        wanted_bytes / 1_000_000, free_bytes / 1_000_000, path.display()
    )]
    LittleSpace {
        /// The store.
        path: std::path::PathBuf,
        /// What is free.
        free_bytes: u64,
        /// What should be.
        wanted_bytes: u64,
    },
}

impl TemplateError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<Hint> {
        const MAKE_ROOM: &str = "`sandbox prune` removes what is not needed any more, \
             `sandbox prune --all` every template that no running sandbox uses";
        match self {
            Self::File(error) => match error.source.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Some(
                    format!(
                        "the disk is full: {MAKE_ROOM}; or set `SANDBOX_HOME` to a directory on a \
                     larger disk"
                    )
                    .into(),
                ),
                _ => error.hint(),
            },
            Self::LittleSpace { .. } => Some(MAKE_ROOM.into()),
            Self::Unknown(_) => Some("`sandbox template ls` shows what is stored".into()),
            Self::Ambiguous { .. } => Some("give more digits".into()),
        }
    }
}

/// Why a stored template cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TemplateFault {
    /// The record is not JSON of the known form.
    #[error("its record is damaged: {0}")]
    Unreadable(serde_json::Error),
    /// The record is of another version of this program.
    #[error("its record is of version {0}")]
    OtherVersion(u32),
    /// The record tells of another shape than the directory's name.
    #[error("its record is that of another template")]
    OtherShape,
    /// The system does not let it be read.
    #[error("{0}")]
    Inaccessible(String),
    /// A file is not there.
    #[error("`{0}` is missing")]
    Missing(&'static str),
    /// A file has another length.
    #[error("`{file}` has {found_bytes} bytes instead of {expected_bytes}")]
    WrongLength {
        /// The file.
        file: &'static str,
        /// Its length when it was stored.
        expected_bytes: u64,
        /// Its length now.
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
