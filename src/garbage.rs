//! Disk usage and unused data.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::SystemTime;

use sandbox_host::directories::Directories;
use sandbox_host::files::{self, allocated_bytes, names_in};
use sandbox_host::lock::{DirectoryLock, LockAttempt};
use sandbox_spec::{SandboxName, TemplateKey};
use sandbox_store::image;
use sandbox_store::template::{Entry, EntryState, Expectations, Survey, UNUSED_KEPT};
use serde::Serialize;

use crate::error::Error;
use crate::host::Host;
use crate::registry::{self, Found, RegistryError};
use crate::start;
use crate::state::StateLayout;

/// A kind of stored data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum StorageKind {
    /// Base images.
    Images,
    /// Templates: saved guests.
    Templates,
    /// The state of sandboxes.
    Sandboxes,
    /// The logs of sandboxes, networks and builds.
    Logs,
}

/// The disk usage of one kind of data.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Usage {
    /// The kind.
    pub kind: StorageKind,
    /// The number of items.
    pub count: usize,
    /// The allocated disk space, in bytes.
    pub allocated_bytes: u64,
    /// The part that [`Garbage::collect`] frees, in bytes.
    pub reclaimable_bytes: u64,
}

/// Unused data.
#[derive(Debug)]
pub struct Garbage {
    host: Host,
    kind: StorageKind,
    what: GarbageKind,
    allocated_bytes: u64,
    is_of_use: bool,
    action: Action,
}

/// The kind of unused data.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum GarbageKind {
    /// A template that can be removed.
    Template {
        /// The template's key.
        key: TemplateKey,
        /// The reason.
        reason: String,
    },
    /// The number of unfinished templates.
    UnfinishedTemplates(usize),
    /// The number of guests that did not become templates.
    TemplateGuests(usize),
    /// The number of files of replaced images.
    ReplacedImageFiles(usize),
    /// The number of unfinished images.
    UnfinishedImages(usize),
    /// The number of sandboxes whose supervisor has died.
    DeadSandboxes(usize),
    /// The number of old logs of failed template builds.
    OldTemplateLogs(usize),
}

#[derive(Debug)]
enum Action {
    Template(TemplateKey),
    OrphanTemplates,
    Blobs,
    TemplateGuests,
    ImageBuilds,
    Sandboxes,
    Logs,
}

impl Garbage {
    /// Returns the kind of data.
    pub fn what(&self) -> &GarbageKind {
        &self.what
    }

    /// Returns the allocated disk space, in bytes.
    pub fn allocated_bytes(&self) -> u64 {
        self.allocated_bytes
    }

    /// Returns whether a start could still use it. Removing it makes that start slower.
    pub fn is_of_use(&self) -> bool {
        self.is_of_use
    }

    /// Removes the data.
    ///
    /// # Errors
    /// Fails if a file cannot be removed.
    pub fn collect(&self) -> Result<(), Error> {
        let host = &self.host;
        match &self.action {
            Action::Template(key) => drop(host.templates().discard(key)?),
            Action::OrphanTemplates => drop(host.templates().collect_garbage()?),
            Action::Blobs => host.images().collect_garbage()?,
            Action::TemplateGuests => collect_dead_builds(host.directories())?,
            Action::ImageBuilds => image::build::collect_garbage(&host.images())?,
            Action::Sandboxes => {
                for layout in survey(host.directories())?.1 {
                    registry::collect_if_dead(&layout);
                }
            }
            Action::Logs => drop(host.templates().remove_expired_logs()?),
        }
        Ok(())
    }
}

impl Host {
    /// Returns the unused data. With `all`, also returns the templates that no running sandbox
    /// uses. Templates come before the image files that they depend on. Removes nothing.
    ///
    /// # Errors
    /// Fails if a store or the state cannot be read.
    pub fn garbage(&self, all: bool) -> Result<Vec<Garbage>, Error> {
        Ok(All::of(self)?.garbage(all))
    }

    /// Returns the disk usage of images, templates, sandboxes and logs.
    ///
    /// # Errors
    /// Fails if a store or the state cannot be read.
    pub fn disk_usage(&self) -> Result<Vec<Usage>, Error> {
        All::of(self)?.usage()
    }

    /// Returns the running sandboxes of each template.
    ///
    /// # Errors
    /// Fails if the state cannot be read.
    pub fn template_users(&self) -> Result<BTreeMap<TemplateKey, Vec<SandboxName>>, Error> {
        Ok(template_users(&self.sandboxes()?))
    }

    /// Returns the current expectations of starts from templates.
    ///
    /// # Errors
    /// Fails if the image store cannot be read.
    pub fn template_expectations(&self) -> Result<Expectations, Error> {
        start::expectations(self)
    }
}

/// All stored data.
struct All<'a> {
    host: &'a Host,
    image_count: usize,
    images: image::StoreUsage,
    templates: Survey,
    running: Vec<Found>,
    /// The state of dead sandboxes.
    dead: Vec<StateLayout>,
    /// The state of dead template builds.
    dead_builds: Vec<StateLayout>,
    expired_logs: Vec<PathBuf>,
    expectations: Expectations,
}

impl<'a> All<'a> {
    /// Reads the stores and the state. Changes nothing.
    fn of(host: &'a Host) -> Result<Self, Error> {
        let images = host.images();
        let (running, dead) = survey(host.directories())?;
        Ok(Self {
            host,
            image_count: images.list()?.len(),
            images: images.usage()?,
            templates: host.templates().survey()?,
            running,
            dead,
            dead_builds: dead_builds(host.directories())?,
            expired_logs: host.templates().expired_logs()?,
            expectations: start::expectations(host)?,
        })
    }

    fn garbage(&self, all: bool) -> Vec<Garbage> {
        let users = template_users(&self.running);
        let one = |kind, what, allocated_bytes, is_of_use, action| Garbage {
            host: self.host.clone(),
            kind,
            what,
            allocated_bytes,
            is_of_use,
            action,
        };
        let templates = self.templates.entries.iter().filter_map(|entry| {
            let is_in_use = users.contains_key(&entry.key);
            let (reason, is_of_use) = self.removal_reason(entry, is_in_use, all)?;
            let key = entry.key;
            Some(one(
                StorageKind::Templates,
                GarbageKind::Template { key, reason },
                entry.allocated_bytes,
                is_of_use,
                Action::Template(key),
            ))
        });
        let mut garbage: Vec<Garbage> = templates.collect();
        let mut add = |kind, sizes: Vec<u64>, what: fn(usize) -> GarbageKind, action| {
            if !sizes.is_empty() {
                let total = sizes.iter().sum();
                garbage.push(one(kind, what(sizes.len()), total, false, action));
            }
        };
        let of_images = |garbage: &[image::Garbage]| -> Vec<u64> {
            garbage.iter().map(|one| one.allocated_bytes).collect()
        };
        let of_layouts = |layouts: &[StateLayout]| -> Vec<u64> {
            let bytes = |layout: &StateLayout| allocated_bytes(layout.directory());
            layouts.iter().map(bytes).collect()
        };
        let unfinished = self.templates.orphans.iter();
        add(
            StorageKind::Templates,
            unfinished.map(|left| left.allocated_bytes).collect(),
            GarbageKind::UnfinishedTemplates,
            Action::OrphanTemplates,
        );
        add(
            StorageKind::Templates,
            of_layouts(&self.dead_builds),
            GarbageKind::TemplateGuests,
            Action::TemplateGuests,
        );
        add(
            StorageKind::Images,
            of_images(&self.images.blobs),
            GarbageKind::ReplacedImageFiles,
            Action::Blobs,
        );
        add(
            StorageKind::Images,
            of_images(&self.images.builds),
            GarbageKind::UnfinishedImages,
            Action::ImageBuilds,
        );
        add(
            StorageKind::Sandboxes,
            of_layouts(&self.dead),
            GarbageKind::DeadSandboxes,
            Action::Sandboxes,
        );
        let logs = self.expired_logs.iter();
        add(
            StorageKind::Logs,
            logs.map(|log| allocated_bytes(log)).collect(),
            GarbageKind::OldTemplateLogs,
            Action::Logs,
        );
        garbage
    }

    /// Returns why a template can be removed, and whether a start could still use it.
    fn removal_reason(&self, entry: &Entry, is_in_use: bool, all: bool) -> Option<(String, bool)> {
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

    fn usage(&self) -> Result<Vec<Usage>, Error> {
        let garbage = self.garbage(false);
        let usage = |kind, count, allocated_bytes| {
            let of_kind = garbage.iter().filter(|garbage| garbage.kind == kind);
            Usage {
                kind,
                count,
                allocated_bytes,
                reclaimable_bytes: of_kind.map(|garbage| garbage.allocated_bytes).sum(),
            }
        };
        let directories = self.host.directories();
        let templates = &self.templates;
        let template_bytes: u64 = templates
            .entries
            .iter()
            .map(|entry| entry.allocated_bytes)
            .chain(templates.orphans.iter().map(|left| left.allocated_bytes))
            .chain([allocated_bytes(&directories.building())])
            .sum();
        let running = self.running.iter().map(|found| &found.layout);
        let layouts: Vec<&StateLayout> = running.chain(&self.dead).collect();
        let all_bytes: u64 = layouts
            .iter()
            .map(|layout| allocated_bytes(layout.directory()))
            .sum();
        let bytes_of =
            |logs: &[PathBuf]| -> u64 { logs.iter().map(|log| allocated_bytes(log)).sum() };
        let own_logs: Vec<PathBuf> = layouts.iter().flat_map(|layout| layout.logs()).collect();
        let proxies = directories.proxies();
        let proxy_logs: Vec<PathBuf> = names_in(&proxies)?
            .iter()
            .flat_map(|name| crate::state::access_logs(&proxies.join(name)))
            .collect();
        let builds = directories.build_logs();
        let build_logs: Vec<PathBuf> = names_in(&builds)?
            .iter()
            .map(|name| builds.join(name))
            .collect();
        Ok(vec![
            usage(
                StorageKind::Images,
                self.image_count,
                self.images.allocated_bytes,
            ),
            usage(
                StorageKind::Templates,
                templates.entries.len(),
                template_bytes,
            ),
            usage(
                StorageKind::Sandboxes,
                self.running.len(),
                all_bytes.saturating_sub(bytes_of(&own_logs)),
            ),
            usage(
                StorageKind::Logs,
                own_logs.len() + proxy_logs.len() + build_logs.len(),
                bytes_of(&own_logs) + bytes_of(&proxy_logs) + bytes_of(&build_logs),
            ),
        ])
    }
}

fn template_users(running: &[Found]) -> BTreeMap<TemplateKey, Vec<SandboxName>> {
    let mut users = BTreeMap::<_, Vec<_>>::new();
    for found in running {
        if let Some(key) = found.record().and_then(|record| record.template) {
            users.entry(key).or_default().push(found.name.clone());
        }
    }
    users
}

/// Returns the owned sandboxes, and the state of dead ones.
fn survey(directories: &Directories) -> Result<(Vec<Found>, Vec<StateLayout>), RegistryError> {
    let (mut found, mut left) = (Vec::new(), Vec::new());
    for name in registry::names(directories)? {
        let layout = StateLayout::new(directories, &name);
        if registry::is_owned(&layout) {
            found.push(Found::new(name, layout));
        } else if layout.lock().exists() {
            left.push(layout);
        }
    }
    Ok((found, left))
}

/// Returns the state of template builds whose process has died.
fn dead_builds(directories: &Directories) -> Result<Vec<StateLayout>, RegistryError> {
    let parent = directories.building();
    let layouts = files::names_in(&parent)?
        .into_iter()
        .map(|name| StateLayout::at(parent.join(name), directories));
    Ok(layouts
        .filter(|layout| !registry::is_owned(layout))
        .collect())
}

fn collect_dead_builds(directories: &Directories) -> Result<(), RegistryError> {
    for layout in dead_builds(directories)? {
        if let LockAttempt::Acquired(lock) = DirectoryLock::try_acquire(&layout.lock())? {
            registry::collect(&layout, lock);
        }
    }
    Ok(())
}
