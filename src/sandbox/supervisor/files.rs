//! The files of a start, written before QEMU is.

use std::path::{Path, PathBuf};

use super::SupervisorError;
use crate::host::files;
use crate::image::{guest_agent, initrd};
use crate::qemu::overlay;
use crate::sandbox::StartPlan;
use crate::ssh::Endpoint;
use crate::ssh::alias::{Aliases, Written};
use crate::ssh::keys::KeyFiles;

/// Writes everything that QEMU opens and that sessions need.
pub(super) fn write(plan: &StartPlan) -> Result<(), SupervisorError> {
    let layout = &plan.layout;
    files::create_private_directory(&layout.seed())?;
    for file in plan.seed.smbios.iter().chain(&plan.seed.firmware) {
        files::write_private_volatile(&layout.seed().join(&file.name), &file.content)?;
    }
    files::create_private_directory(&layout.ssh())?;
    KeyFiles::in_directory(layout.ssh()).write(plan.spec.name.as_str(), &plan.keys)?;
    for log in [layout.console_log(), layout.qemu_log()] {
        // QEMU appends to them and so keeps their mode.
        files::write_private_volatile(&log, b"")?;
    }
    write_initrd(plan)?;
    overlay::create(&layout.overlay(), &plan.image.disk, plan.spec.disk.bytes())?;
    Ok(())
}

fn write_initrd(plan: &StartPlan) -> Result<(), SupervisorError> {
    let modules = read(&plan.image.modules)?;
    let initrd = initrd::compose(&modules, guest_agent());
    Ok(files::write_private_volatile(
        &plan.layout.initrd(),
        &initrd,
    )?)
}

fn read(path: &Path) -> Result<Vec<u8>, SupervisorError> {
    std::fs::read(path)
        .map_err(files::FileError::new("read", path))
        .map_err(SupervisorError::File)
}

/// Writes the alias for OpenSSH, if the user has a directory for such. Returns
/// its path, and what the user should know about it.
pub(super) fn write_alias(
    plan: &StartPlan,
    endpoint: &Endpoint,
) -> Result<(Option<PathBuf>, Option<String>), SupervisorError> {
    Ok(
        match Aliases::of_home(&plan.home).write(plan.spec.name.as_str(), endpoint)? {
            Written::Usable(path) => (Some(path), None),
            Written::NotIncluded(path) => {
                let notice = format!(
                    "`~/.ssh/config` does not include `~/.ssh/config.d/`, so `ssh {}` does not work yet: put the line `Include config.d/*.conf` at its top",
                    plan.spec.name
                );
                (Some(path), Some(notice))
            }
            Written::Unwanted => (None, None),
        },
    )
}
