//! The files of a start, which the supervisor writes before it starts QEMU.

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

/// Writes the files that both start methods need.
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

/// Creates empty, private logs. QEMU appends to them, so their mode stays.
pub(super) fn write_logs(layout: &StateLayout) -> Result<(), SupervisorError> {
    for log in [layout.console_log(), layout.qemu_log()] {
        files::write_private_volatile(&log, b"")?;
    }
    Ok(())
}

/// Writes the seed and the initial RAM disk that a guest boots from.
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

/// Creates the disk of a cold start on top of the image's disk.
pub(super) fn write_cold_disk(plan: &StartPlan) -> Result<(), SupervisorError> {
    let size = plan.spec.disk.bytes();
    Ok(overlay::create(
        &plan.layout.overlay(),
        &plan.image.disk,
        size,
    )?)
}

/// Creates the disk of a warm start on top of the template's disk. The saved guest knows the disk's
/// size, so the size stays.
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

/// Removes the files of a failed attempt that would block the next one.
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

/// Writes the alias for OpenSSH, if the user has `~/.ssh/config.d/`.
pub(super) fn write_alias(plan: &StartPlan, port: u16) -> Result<Written, SupervisorError> {
    let name = &plan.spec.name;
    let endpoint = plan.layout.endpoint(name, port, "dev")?;
    Ok(Aliases::of_home(&plan.home).write(name.as_str(), &endpoint)?)
}
