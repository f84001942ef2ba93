//! The files of a start, written before QEMU is.

use std::path::Path;

use super::SupervisorError;
use crate::guest::credential::Transport;
use crate::plan::TemplateFiles;
use crate::ssh::alias::{Aliases, Written};
use crate::ssh::keys::KeyFiles;
use crate::{BootImage, StartPlan, StateLayout};
use sandbox_gateway::allowlist::{self, ListFile};
use sandbox_host::files;
use sandbox_qemu::overlay;
use sandbox_store::image::{guest_agent, initrd};

/// Writes what every start needs, whichever way it goes.
pub(super) fn write_common(plan: &StartPlan) -> Result<(), SupervisorError> {
    let layout = &plan.layout;
    files::create_private_directory(&layout.ssh())?;
    KeyFiles::in_directory(layout.ssh()).write(plan.spec.name.as_str(), &plan.keys)?;
    files::create_private_directory(&plan.network_directory)?;
    match &plan.spec.network.allowlist {
        Some(domains) => {
            let list = plan.network_directory.join(allowlist::FILE);
            let lines = domains.iter().map(|domain| format!("{domain}\n"));
            files::write_private_volatile(&list, lines.collect::<String>().as_bytes())?;
        }
        None if plan.spec.network.proxy => {
            ListFile::in_directory(&plan.network_directory).create_if_absent()?;
        }
        None => {}
    }
    write_logs(layout)
}

/// Makes empty logs: QEMU appends to them and so keeps their mode.
pub(super) fn write_logs(layout: &StateLayout) -> Result<(), SupervisorError> {
    for log in [layout.console_log(), layout.qemu_log()] {
        files::write_private_volatile(&log, b"")?;
    }
    Ok(())
}

/// Writes what a guest boots from, but for its disk.
pub(super) fn write_boot_files(
    layout: &StateLayout,
    seed: &Transport,
    image: &BootImage,
) -> Result<(), SupervisorError> {
    files::create_private_directory(&layout.seed())?;
    for file in seed.smbios.iter().chain(&seed.firmware) {
        files::write_private_volatile(&layout.seed().join(&file.name), &file.content)?;
    }
    let modules = read(&image.modules)?;
    let initrd = initrd::compose(&modules, guest_agent());
    Ok(files::write_private_volatile(&layout.initrd(), &initrd)?)
}

/// Makes the disk of a cold start, on the image's.
pub(super) fn write_cold_disk(plan: &StartPlan) -> Result<(), SupervisorError> {
    let size = plan.spec.disk.bytes();
    Ok(overlay::create(
        &plan.layout.overlay(),
        &plan.image.disk,
        size,
    )?)
}

/// Makes the disk of a warm start, on the template's and as large as that: the
/// saved guest knows its size.
pub(super) fn write_warm_disk(
    layout: &StateLayout,
    template: &TemplateFiles,
) -> Result<(), SupervisorError> {
    files::create_private_directory(&layout.spare())?;
    Ok(overlay::create(
        &layout.overlay(),
        &template.disk,
        template.disk_bytes,
    )?)
}

/// Removes what a failed attempt to start leaves in the way of another.
pub(super) fn clear_attempt(layout: &StateLayout) -> Result<(), SupervisorError> {
    let sockets = [
        layout.qmp_socket(),
        layout.console_socket(),
        layout.event_socket(),
        layout.agent_port_socket(),
        layout.agent_socket(),
    ];
    for path in sockets
        .into_iter()
        .chain([layout.overlay(), layout.qemu_pid()])
    {
        files::remove_file_if_present(&path)?;
    }
    Ok(())
}

fn read(path: &Path) -> Result<Vec<u8>, SupervisorError> {
    std::fs::read(path)
        .map_err(files::FileError::new("read", path))
        .map_err(SupervisorError::File)
}

/// Writes the alias for OpenSSH, if the user has a directory for such.
pub(super) fn write_alias(plan: &StartPlan, port: u16) -> Result<Written, SupervisorError> {
    let name = &plan.spec.name;
    let endpoint = plan.layout.endpoint(name, port, "dev")?;
    Ok(Aliases::of_home(&plan.home).write(name.as_str(), &endpoint)?)
}
