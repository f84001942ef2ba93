//! Reads the kernel and the modules of the initrd from the new disk.

use super::super::decompress::Compression;
use super::super::metadata::KernelFormat;
use super::super::{initrd, kernel, modules};
use super::command::Runner;
use super::disk::DiskReader;
use super::error::BuildError;

/// The largest size of a decompressed module, in bytes. Debian's modules have less than 16 MiB.
const MODULE_LIMIT_BYTES: usize = 64 << 20;

/// The files of an image besides its disk.
pub(super) struct BootFiles {
    /// The kernel's release, which names the modules' directory.
    pub(super) kernel_release: String,
    /// The argument of QEMU's `-kernel`.
    pub(super) kernel: Vec<u8>,
    /// The form of `kernel`.
    pub(super) kernel_format: KernelFormat,
    /// The image's part of the initrd.
    pub(super) modules: Vec<u8>,
}

/// Reads the only kernel in `/boot`, and the modules `wanted` with their dependencies.
pub(super) fn read(
    runner: &mut Runner<'_>,
    disk: &DiskReader<'_>,
    wanted: &[String],
) -> Result<BootFiles, BuildError> {
    let boot = disk.list(runner, "/boot")?;
    let releases: Vec<_> = boot
        .iter()
        .filter_map(|name| name.strip_prefix("vmlinuz-"))
        .collect();
    let &[release] = releases.as_slice() else {
        return Err(BuildError::KernelCount {
            name: disk.name.clone(),
            count: releases.len(),
        });
    };
    let bz_image = disk.read(runner, &format!("/boot/vmlinuz-{release}"))?;
    let (kernel, kernel_format) = fastest_kernel(runner, disk, bz_image)?;
    let modules = read_modules(runner, disk, release, wanted)?;
    Ok(BootFiles {
        kernel_release: release.to_owned(),
        kernel,
        kernel_format,
        modules: initrd::modules_archive(&modules),
    })
}

/// Returns the uncompressed kernel if QEMU can start it, else the file of Debian's package.
fn fastest_kernel(
    runner: &mut Runner<'_>,
    disk: &DiskReader<'_>,
    bz_image: Vec<u8>,
) -> Result<(Vec<u8>, KernelFormat), BuildError> {
    let vmlinux = kernel::extract_vmlinux(&bz_image).map_err(|source| BuildError::Kernel {
        name: disk.name.clone(),
        source,
    })?;
    if kernel::has_pvh_entry(&vmlinux) {
        return Ok((vmlinux, KernelFormat::Vmlinux));
    }
    runner.note("the kernel has no PVH entry point, so it stays compressed")?;
    Ok((bz_image, KernelFormat::BzImage))
}

/// Returns file names and decompressed contents in the order of loading.
fn read_modules(
    runner: &mut Runner<'_>,
    disk: &DiskReader<'_>,
    release: &str,
    wanted: &[String],
) -> Result<Vec<(String, Vec<u8>)>, BuildError> {
    let directory = format!("/usr/lib/modules/{release}");
    let mut text = |file: &str| {
        let contents = disk.read(runner, &format!("{directory}/{file}"))?;
        Ok::<_, BuildError>(String::from_utf8_lossy(&contents).into_owned())
    };
    let dependencies = text("modules.dep")?;
    let builtin = text("modules.builtin")?;
    let order = modules::load_order(wanted, &dependencies, &builtin).map_err(|source| {
        BuildError::Module {
            name: disk.name.clone(),
            source,
        }
    })?;
    let mut loaded = Vec::new();
    for path in order {
        let contents = disk.read(runner, &format!("{directory}/{path}"))?;
        let contents = match Compression::detect(&contents) {
            None => contents,
            Some(compression) => compression
                .decompress(&contents, MODULE_LIMIT_BYTES)
                .map_err(|source| BuildError::DecompressModule {
                    file: path.clone(),
                    source,
                })?,
        };
        loaded.push((modules::uncompressed_file_name(&path), contents));
    }
    Ok(loaded)
}
