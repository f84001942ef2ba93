//! The bounds of the store.

use std::time::Duration;

use sandbox_spec::TemplateKey;

use super::error::TemplateError;
use super::shape::Expectations;
use super::store::{TemplateStore, remove_all};
use super::survey::{Entry, EntryState};

/// The default for [`Limits::allocated_bytes`]: 8 GiB, some ten templates of a guest with 2 GiB of
/// memory.
pub const DEFAULT_SPACE_BYTES: u64 = 8 << 30;

/// The largest number of templates.
pub const COUNT_LIMIT: usize = 16;

/// The time after its last use at which a template counts as unused.
pub const UNUSED_KEPT: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// The bounds that [`TemplateStore::evict`] keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The largest size of all templates on the disk, in bytes; holes do not count.
    pub allocated_bytes: u64,
    /// The largest number of templates.
    pub count: usize,
}

impl Limits {
    /// Returns limits of this size on the disk and of [`COUNT_LIMIT`] templates.
    pub fn of_space(allocated_bytes: u64) -> Self {
        Self {
            allocated_bytes,
            count: COUNT_LIMIT,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::of_space(DEFAULT_SPACE_BYTES)
    }
}

/// A template that was removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Removed {
    /// Its name.
    pub key: TemplateKey,
    /// The size that it had on the disk, in bytes.
    pub allocated_bytes: u64,
}

/// The value of a template. Less valuable templates are removed first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Worth {
    /// No start can use it.
    Broken,
    /// No start will ask for it.
    Obsolete,
    /// A start may ask for it; contains the time of the last use.
    Useful(jiff::Timestamp),
}

impl TemplateStore {
    /// Removes templates until `limits` hold, in this order: broken templates, templates that are
    /// obsolete by `expectations`, and the templates whose last use is oldest. Never removes
    /// `keep`. Builds in progress do not count.
    ///
    /// # Errors
    ///
    /// The store cannot be read, or a file cannot be removed.
    pub fn evict(
        &self,
        limits: &Limits,
        keep: &TemplateKey,
        expectations: &Expectations,
    ) -> Result<Vec<Removed>, TemplateError> {
        let Some(lock) = self.lock_if_present()? else {
            return Ok(Vec::new());
        };
        let survey = self.survey_locked()?;
        let mut entries: Vec<(Worth, Entry)> = survey
            .entries
            .into_iter()
            .filter_map(|entry| Some((worth(&entry, expectations)?, entry)))
            .collect();
        entries.sort_by_key(|(worth, _)| *worth);
        let mut total: u64 = entries.iter().map(|(_, entry)| entry.allocated_bytes).sum();
        let mut count = entries.len();
        let (mut removed, mut aside) = (Vec::new(), Vec::new());
        for (_, entry) in entries {
            if total <= limits.allocated_bytes && count <= limits.count {
                break;
            }
            if entry.key == *keep {
                continue;
            }
            aside.extend(self.set_aside(&lock, &self.directory(&entry.key))?);
            total = total.saturating_sub(entry.allocated_bytes);
            count -= 1;
            removed.push(Removed {
                key: entry.key,
                allocated_bytes: entry.allocated_bytes,
            });
        }
        drop(lock);
        remove_all(&aside)?;
        Ok(removed)
    }
}

/// Returns the value of a template, and `None` for a build in progress.
fn worth(entry: &Entry, expectations: &Expectations) -> Option<Worth> {
    match &entry.state {
        EntryState::Building { .. } => None,
        EntryState::Broken(_) => Some(Worth::Broken),
        EntryState::Ready(metadata) => Some(match expectations.obsolescence(&metadata.shape) {
            Some(_) => Worth::Obsolete,
            None => Worth::Useful(entry.last_used),
        }),
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::template::shape::tests::sample;
    use crate::template::store::tests::Fixture;

    const NO_SPACE_LIMIT: u64 = u64::MAX;

    fn expectations() -> Expectations {
        Expectations {
            image_digests: Some([sample(1).image_digest].into()),
            program: sample(1).program,
            qemu_version: None,
        }
    }

    /// Returns the keys of the remaining templates, oldest use first.
    fn remaining(fixture: &Fixture) -> Vec<TemplateKey> {
        let entries = fixture.store.list().unwrap();
        entries.iter().rev().map(|entry| entry.key).collect()
    }

    /// Stores five templates, whose last uses are in the order of their keys.
    fn five(fixture: &Fixture) -> Vec<TemplateKey> {
        (1..=5)
            .map(|number| {
                let key = fixture.store_template(sample(number)).key;
                let age = Duration::from_secs(1000 - 100 * number);
                fixture.set_last_use(&key, SystemTime::now() - age);
                key
            })
            .collect()
    }

    fn evict(fixture: &Fixture, bytes: u64, count: usize, keep: &TemplateKey) -> Vec<TemplateKey> {
        let limits = Limits {
            allocated_bytes: bytes,
            count,
        };
        let removed = fixture.store.evict(&limits, keep, &expectations()).unwrap();
        removed.iter().map(|removed| removed.key).collect()
    }

    #[test]
    fn evict_over_count_removes_oldest_uses() {
        let fixture = Fixture::new();
        let keys = five(&fixture);
        assert!(evict(&fixture, NO_SPACE_LIMIT, 5, &keys[4]).is_empty());
        assert_eq!(evict(&fixture, NO_SPACE_LIMIT, 3, &keys[4]), keys[..2]);
        assert_eq!(remaining(&fixture), keys[2..]);
        fixture.store.touch(&keys[2]);
        assert_eq!(evict(&fixture, NO_SPACE_LIMIT, 2, &keys[4]), [keys[3]]);
    }

    #[test]
    fn evict_with_limits_of_zero_keeps_named_template() {
        let fixture = Fixture::new();
        let keys = five(&fixture);
        assert_eq!(evict(&fixture, 0, 0, &keys[0]), keys[1..]);
        assert_eq!(remaining(&fixture), keys[..1]);
    }

    #[test]
    fn evict_over_space_ignores_holes() {
        let fixture = Fixture::new();
        let keys = five(&fixture);
        let each = fixture.store.list().unwrap()[0].allocated_bytes;
        // The files hold 1 TiB of holes each.
        assert!(each < 1 << 30);
        assert_eq!(evict(&fixture, 4 * each, 16, &keys[4]), keys[..1]);
        assert!(evict(&fixture, 4 * each, 16, &keys[4]).is_empty());
    }

    #[test]
    fn evict_removes_broken_then_obsolete_templates() {
        let fixture = Fixture::new();
        let keys = five(&fixture);
        let other_program = fixture.store_template(crate::template::Shape {
            program: "0.0.1 agent".into(),
            ..sample(6)
        });
        let other_image = fixture.store_template(crate::template::Shape {
            image_digest: sandbox_spec::Digest::of(b"another"),
            ..sample(7)
        });
        let broken = fixture.store_template(sample(8));
        std::fs::remove_file(broken.directory.ram()).unwrap();
        let mut removed = evict(&fixture, NO_SPACE_LIMIT, 5, &keys[4]);
        assert_eq!(removed.remove(0), broken.key);
        removed.sort();
        let mut obsolete = [other_program.key, other_image.key];
        obsolete.sort();
        assert_eq!(removed, obsolete);
        assert_eq!(remaining(&fixture), keys);
    }

    #[test]
    fn evict_keeps_build_in_progress() {
        let fixture = Fixture::new();
        let keys = five(&fixture);
        let build = fixture.begin(sample(6));
        assert_eq!(evict(&fixture, 0, 0, &keys[4]), keys[..4]);
        assert!(build.directory().is_dir());
        assert!(evict(&Fixture::new(), 0, 0, &keys[4]).is_empty());
    }
}
