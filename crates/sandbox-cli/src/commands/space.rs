//! What lies on the disk, and what of it nothing needs: for `df` and `prune`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::SystemTime;

use serde::Serialize;

use super::context::Context;
use crate::output::Report;
use sandbox::lifecycle::{self, Found};
use sandbox::{StateLayout, leftovers, templates};
use sandbox_host::files::allocated_bytes;
use sandbox_qemu::program;
use sandbox_qemu::program::Search;
use sandbox_spec::{SandboxName, TemplateKey};
use sandbox_store::image;
use sandbox_store::image::StoreUsage;
use sandbox_store::template::{
    Entry, EntryState, Expectations, Survey as TemplateSurvey, UNUSED_KEPT,
};

/// All that this program has on the disk.
pub(super) struct Survey {
    pub(super) image_count: usize,
    pub(super) images: StoreUsage,
    pub(super) templates: TemplateSurvey,
    pub(super) running: Vec<Found>,
    /// State directories of sandboxes that have died.
    pub(super) dead: Vec<StateLayout>,
    /// What guests have left that were to become templates.
    pub(super) dead_builds: Vec<StateLayout>,
    expired_logs: Vec<PathBuf>,
    expectations: Expectations,
}

/// What takes space.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Kind {
    Images,
    Templates,
    Sandboxes,
    Logs,
}

/// Something that can go.
pub(super) struct Removal {
    pub(super) kind: Kind,
    /// What it is and why it can go, for people.
    pub(super) description: String,
    pub(super) allocated_bytes: u64,
    /// Whether starts take longer without it.
    pub(super) is_of_use: bool,
    action: Action,
}

enum Action {
    Template(TemplateKey),
    TemplateLeftovers,
    Blobs,
    TemplateGuests,
    ImageBuilds,
    Sandboxes,
    Logs,
}

impl Survey {
    /// Looks, and changes nothing.
    pub(super) fn of(context: &Context) -> Result<Self, Report> {
        let images = context.images();
        let (running, dead) = leftovers::survey(&context.directories)?;
        Ok(Self {
            image_count: images.list()?.len(),
            images: images.usage()?,
            templates: context.templates().survey()?,
            running,
            dead,
            dead_builds: leftovers::dead_builds(&context.directories)?,
            expired_logs: context.templates().expired_logs()?,
            expectations: expectations(context)?,
        })
    }

    /// What can go: what nothing needs, and with `all` the templates that no running sandbox
    /// uses, too. Templates come before the files of images that they lie on.
    pub(super) fn removals(&self, all: bool) -> Vec<Removal> {
        let users = template_users(&self.running);
        let mut removals: Vec<Removal> = self
            .templates
            .entries
            .iter()
            .filter_map(|entry| {
                let (why, is_of_use) =
                    self.why_to_go(entry, users.contains_key(&entry.key), all)?;
                Some(Removal {
                    kind: Kind::Templates,
                    description: format!("template {}: {why}", entry.key),
                    allocated_bytes: entry.allocated_bytes,
                    is_of_use,
                    action: Action::Template(entry.key),
                })
            })
            .collect();
        let sizes = |garbage: &[image::Garbage]| -> Vec<u64> {
            garbage
                .iter()
                .map(|garbage| garbage.allocated_bytes)
                .collect()
        };
        let mut add = |kind, sizes: Vec<u64>, one: &str, many: &str, action| {
            if !sizes.is_empty() {
                removals.push(Removal {
                    kind,
                    description: counted(sizes.len(), one, many),
                    allocated_bytes: sizes.iter().sum(),
                    is_of_use: false,
                    action,
                });
            }
        };
        let leftovers = &self.templates.leftovers;
        add(
            Kind::Templates,
            leftovers.iter().map(|left| left.allocated_bytes).collect(),
            "template that was not finished",
            "templates that were not finished",
            Action::TemplateLeftovers,
        );
        let sizes_of = |layouts: &[StateLayout]| -> Vec<u64> {
            let bytes = |layout: &StateLayout| allocated_bytes(layout.directory());
            layouts.iter().map(bytes).collect()
        };
        add(
            Kind::Templates,
            sizes_of(&self.dead_builds),
            "guest that did not become a template",
            "guests that did not become templates",
            Action::TemplateGuests,
        );
        add(
            Kind::Images,
            sizes(&self.images.blobs),
            "file of images that were replaced",
            "files of images that were replaced",
            Action::Blobs,
        );
        add(
            Kind::Images,
            sizes(&self.images.builds),
            "image that was not finished",
            "images that were not finished",
            Action::ImageBuilds,
        );
        add(
            Kind::Sandboxes,
            sizes_of(&self.dead),
            "sandbox that has died",
            "sandboxes that have died",
            Action::Sandboxes,
        );
        add(
            Kind::Logs,
            self.expired_logs
                .iter()
                .map(|log| allocated_bytes(log))
                .collect(),
            "old log of a template that failed",
            "old logs of templates that failed",
            Action::Logs,
        );
        removals
    }

    /// Why a template can go, and whether it is of use nevertheless.
    fn why_to_go(&self, entry: &Entry, is_in_use: bool, all: bool) -> Option<(String, bool)> {
        let metadata = match &entry.state {
            EntryState::Building { .. } => return None,
            EntryState::Broken(fault) => return Some((fault.to_string(), false)),
            EntryState::Ready(_) if is_in_use => return None,
            EntryState::Ready(metadata) => metadata,
        };
        if let Some(obsolescence) = self.expectations.obsolescence(&metadata.shape) {
            return Some((obsolescence.to_string(), false));
        }
        let age = SystemTime::now().duration_since(entry.last_used.into());
        if age.is_ok_and(|age| age > UNUSED_KEPT) {
            let days = UNUSED_KEPT.as_secs() / (24 * 60 * 60);
            return Some((format!("not used for {days} days"), false));
        }
        all.then(|| ("no running sandbox uses it".into(), true))
    }
}

impl Removal {
    /// Removes it.
    pub(super) fn carry_out(&self, context: &Context) -> Result<(), Report> {
        match &self.action {
            Action::Template(key) => drop(context.templates().discard(key)?),
            Action::TemplateLeftovers => drop(context.templates().sweep()?),
            Action::Blobs => context.images().collect_garbage()?,
            Action::TemplateGuests => leftovers::sweep_dead_builds(&context.directories)?,
            Action::ImageBuilds => image::build::sweep(&context.images())?,
            Action::Sandboxes => drop(lifecycle::list(&context.directories)?),
            Action::Logs => drop(context.templates().remove_expired_logs()?),
        }
        Ok(())
    }
}

/// What starts ask of templates today. QEMU is not run for it: where its version is not
/// remembered, templates of any are of use.
pub(super) fn expectations(context: &Context) -> Result<Expectations, Report> {
    let version = program::remembered_version(Search {
        program_override: std::env::var_os(program::OVERRIDE_VARIABLE).as_deref(),
        search_path: std::env::var_os("PATH").as_deref(),
        cache_directory: &context.directories.state,
    });
    let version = version.map(|version| version.to_string());
    Ok(templates::expectations(&context.images(), version)?)
}

/// Which sandboxes run from which template.
pub(super) fn template_users(running: &[Found]) -> BTreeMap<TemplateKey, Vec<SandboxName>> {
    let mut users = BTreeMap::<_, Vec<_>>::new();
    for found in running {
        if let Some(key) = found.record().and_then(|record| record.template) {
            users.entry(key).or_default().push(found.name.clone());
        }
    }
    users
}

/// A number with its noun.
pub(super) fn counted(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

/// A size for people.
pub(super) fn megabytes(bytes: u64) -> String {
    format!("{} MB", bytes / 1_000_000)
}
