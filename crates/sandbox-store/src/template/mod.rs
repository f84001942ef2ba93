//! Templates: saved guests that warm starts restore.
//!
//! A template is the memory, the device state and the disk layer of a guest that booted once,
//! kept for every later start of the same [`Shape`] ([`TemplateStore`]). The room knows files
//! and nothing of QEMU: who boots, saves and restores guests is `sandbox`. It uses `host`; the
//! start of a sandbox and the commands `template`, `df` and `prune` use it.

mod build;
mod directory;
mod error;
mod eviction;
mod logs;
mod metadata;
mod shape;
mod store;
mod survey;

pub use build::{Begin, Build};
pub use directory::TemplateDirectory;
pub use error::{TemplateError, TemplateFault};
pub use eviction::{COUNT_LIMIT, DEFAULT_SPACE_BYTES, Limits, Removed, UNUSED_KEPT};
pub use logs::LOG_KEPT;
pub use metadata::{Metadata, StateFile, TemplateFiles};
pub use shape::{Expectations, METADATA_VERSION, Obsolescence, Shape};
pub use store::{Template, TemplateStore};
pub use survey::{Entry, EntryState, Leftover, Survey};
