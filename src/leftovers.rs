//! What dead processes have left, to be looked at without sweeping it.

use super::StateLayout;
use super::lifecycle::{Found, LifecycleError, names, sweep};
use sandbox_host::directories::Directories;
use sandbox_host::files;
use sandbox_host::lock::{DirectoryLock, LockAttempt};

/// Every sandbox of the user, and where dead ones left something; nothing is swept.
pub fn survey(directories: &Directories) -> Result<(Vec<Found>, Vec<StateLayout>), LifecycleError> {
    let (mut found, mut left) = (Vec::new(), Vec::new());
    for name in names(directories)? {
        let layout = StateLayout::new(directories, &name);
        if DirectoryLock::is_held(&layout.lock()) {
            found.push(Found::new(name, layout));
        } else if layout.lock().exists() {
            left.push(layout);
        }
    }
    Ok((found, left))
}

/// Where guests that were booted to become templates have left something, their processes
/// having died; nothing is swept.
pub fn dead_builds(directories: &Directories) -> Result<Vec<StateLayout>, LifecycleError> {
    let parent = directories.building();
    let layouts = files::names_in(&parent)?
        .into_iter()
        .map(|name| StateLayout::at(parent.join(name), directories));
    Ok(layouts
        .filter(|layout| !DirectoryLock::is_held(&layout.lock()))
        .collect())
}

/// Sweeps [`dead_builds`].
pub fn sweep_dead_builds(directories: &Directories) -> Result<(), LifecycleError> {
    for layout in dead_builds(directories)? {
        if let LockAttempt::Acquired(lock) = DirectoryLock::try_acquire(&layout.lock())? {
            sweep(&layout, lock);
        }
    }
    Ok(())
}
