//! The files of a start, written before QEMU is.

use std::path::Path;

use super::SupervisorError;
use crate::host::files;
use crate::image::initrd;
use crate::qemu::overlay;
use crate::sandbox::StartPlan;

/// Writes everything that QEMU opens and that sessions need.
pub(super) fn write(plan: &StartPlan) -> Result<(), SupervisorError> {
    let layout = &plan.layout;
    files::create_private_directory(&layout.seed())?;
    for file in plan.seed.smbios.iter().chain(&plan.seed.firmware) {
        files::write_private_volatile(&layout.seed().join(&file.name), &file.content)?;
    }
    files::create_private_directory(&layout.ssh())?;
    let write_key = |name: &str, content: &str| {
        files::write_private_volatile(&layout.ssh().join(name), content.as_bytes())
    };
    write_key("id_ed25519", &plan.ssh.client_key)?;
    write_key("id_ed25519.pub", &plan.ssh.client_public_key)?;
    write_key("ssh_host_ed25519_key.pub", &plan.ssh.host_public_key)?;
    write_initrd(plan)?;
    overlay::create(&layout.overlay(), &plan.image.disk, plan.spec.disk.bytes())?;
    Ok(())
}

fn write_initrd(plan: &StartPlan) -> Result<(), SupervisorError> {
    let modules = read(&plan.image.modules)?;
    let initrd = initrd::compose(&modules, initrd::guest_agent());
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
