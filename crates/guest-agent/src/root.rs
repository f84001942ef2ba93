//! Finds, mounts and grows the root file system.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::ioctl::{Opcode, Setter, opcode};
use rustix::mount::MountFlags;

use crate::command_line::CommandLine;
use crate::events::{self, Event};
use crate::programs::AGENT_PATH;
use crate::report;
use crate::superblock::{self, Size};

/// The subcommand that runs [`run_grow`].
pub(crate) const GROW_COMMAND: &str = "grow-root";

/// How long to wait for the device to appear or grow, or for its file system to
/// grow. Drivers probe while they load, so the device normally exists at once.
const DEVICE_TIMEOUT: Duration = Duration::from_secs(10);

/// Pause between two checks of the device.
const DEVICE_RETRY: Duration = Duration::from_millis(5);

/// `EXT4_IOC_RESIZE_FS` (`linux/ext4.h`): grow to this number of blocks.
const EXT4_IOC_RESIZE_FS: Opcode = opcode::write::<u64>(b'f', 16);

/// A root file system that could not be mounted or grown.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RootError {
    /// The device did not appear.
    #[error("root device `{device}` not found after {} s", DEVICE_TIMEOUT.as_secs())]
    NoDevice { device: PathBuf },
    /// The device or its superblock could not be read.
    #[error("could not read the root device `{device}`")]
    Read { device: PathBuf, source: io::Error },
    /// The device does not contain an ext4 file system.
    #[error("could not find an ext4 file system on the root device `{device}`")]
    NotExt4 { device: PathBuf },
    /// The kernel refused the mount.
    #[error("could not mount the root device `{device}`")]
    Mount { device: PathBuf, source: Errno },
    /// The device is not larger than its file system.
    #[error("the root device `{device}` did not grow within {} s", DEVICE_TIMEOUT.as_secs())]
    DeviceNotGrown { device: PathBuf },
    /// The process that grows the file system did not finish in time.
    #[error("the file system of the root device `{device}` did not grow within {} s", DEVICE_TIMEOUT.as_secs())]
    GrowTimeout { device: PathBuf },
    /// The kernel refused to grow the file system.
    #[error("could not grow the root file system to {blocks} blocks")]
    Grow { blocks: u64, source: io::Error },
}

/// Waits for the device and mounts it on `target`. Returns whether the file
/// system is smaller than the device.
pub(crate) fn mount(device: &Path, target: &Path) -> Result<bool, RootError> {
    wait_for(device)?;
    let can_grow = grow_target(device)?.is_some();
    rustix::mount::mount(
        device,
        target,
        "ext4",
        MountFlags::empty(),
        // Otherwise a kernel thread writes all inode tables of the new groups
        // (ext4(5)). With the option, Linux zeroes a group on its first use.
        c"noinit_itable",
    )
    .map_err(|source| RootError::Mount {
        device: device.to_owned(),
        source,
    })?;
    Ok(can_grow)
}

/// Starts a process that grows the root file system while systemd starts.
/// systemd then keeps only one processor busy.
///
/// # Errors
/// When the process could not be started.
pub(crate) fn spawn_grow() -> io::Result<()> {
    // systemd, the later PID 1, reaps the process.
    Command::new(AGENT_PATH)
        .arg(GROW_COMMAND)
        .spawn()
        .map(|_started| ())
}

/// Runs the subcommand that grows the root file system.
pub(crate) fn run_grow() -> ExitCode {
    let Err(error) = grow_mounted() else {
        return ExitCode::SUCCESS;
    };
    let reason = report::chain(&error);
    report::log(&reason);
    events::send(&Event::Failed { reason: &reason });
    ExitCode::FAILURE
}

/// Waits until the root file system fills its device.
pub(crate) fn wait_until_grown() -> Result<(), RootError> {
    let device = root_device();
    let deadline = Instant::now() + DEVICE_TIMEOUT;
    while grow_target(&device)?.is_some() {
        if Instant::now() > deadline {
            return Err(RootError::GrowTimeout { device });
        }
        thread::sleep(DEVICE_RETRY);
    }
    Ok(())
}

fn root_device() -> PathBuf {
    let command_line = fs::read_to_string("/proc/cmdline").unwrap_or_default();
    CommandLine::parse(&command_line).root
}

/// Grows the mounted root file system to the size of its device. Waits for the
/// device to grow: in a restored guest, the kernel may learn of the new size
/// after the agent does.
pub(crate) fn grow_mounted() -> Result<(), RootError> {
    let device = root_device();
    let deadline = Instant::now() + DEVICE_TIMEOUT;
    let blocks = loop {
        if let Some(blocks) = grow_target(&device)? {
            break blocks;
        }
        if Instant::now() > deadline {
            return Err(RootError::DeviceNotGrown { device });
        }
        thread::sleep(DEVICE_RETRY);
    };
    grow(Path::new("/"), blocks).map_err(|source| RootError::Grow { blocks, source })
}

fn wait_for(device: &Path) -> Result<(), RootError> {
    let deadline = Instant::now() + DEVICE_TIMEOUT;
    while !device.exists() {
        if Instant::now() > deadline {
            return Err(RootError::NoDevice {
                device: device.to_owned(),
            });
        }
        thread::sleep(DEVICE_RETRY);
    }
    Ok(())
}

/// Returns the number of blocks to grow to, or `None` if the file system fills
/// its device.
fn grow_target(device: &Path) -> Result<Option<u64>, RootError> {
    let read = || {
        let mut file = File::open(device)?;
        let device_bytes = file.seek(SeekFrom::End(0))?;
        file.seek(SeekFrom::Start(superblock::OFFSET))?;
        let mut block = [0; superblock::LENGTH];
        file.read_exact(&mut block)?;
        Ok((device_bytes, block))
    };
    let (device_bytes, block) = read().map_err(|source| RootError::Read {
        device: device.to_owned(),
        source,
    })?;
    let size = Size::parse(&block).ok_or_else(|| RootError::NotExt4 {
        device: device.to_owned(),
    })?;
    Ok(size.grow_target(device_bytes))
}

fn grow(root: &Path, blocks: u64) -> io::Result<()> {
    let directory = fs::File::open(root)?;
    // SAFETY: the kernel only reads a 64-bit block count at the pointer of this
    // request, and `Setter` passes a pointer to such a number.
    unsafe { rustix::ioctl::ioctl(directory, Setter::<EXT4_IOC_RESIZE_FS, u64>::new(blocks))? };
    Ok(())
}
