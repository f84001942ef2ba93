//! Templates: saved guests that warm starts restore.
//!
//! A template contains the memory, the device state and the disk layer of a guest that booted
//! once. [`TemplateStore`] keeps it for later starts of the same [`Shape`]. This module handles
//! files and does not know QEMU: the library `sandbox` boots, saves and restores guests. The start
//! of a sandbox and the commands `template`, `df` and `prune` use this module.

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
pub use survey::{Entry, EntryState, Orphan, Survey};
