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

/// The argument with which the agent is [`run_growing`].
pub(crate) const GROW: &str = "grow-root";

/// How long the device may take to appear. The drivers probe while they are
/// loaded, so it is normally there at once.
const DEVICE_TIMEOUT: Duration = Duration::from_secs(10);

/// Pause between two looks for the device.
const DEVICE_RETRY: Duration = Duration::from_millis(5);

/// `EXT4_IOC_RESIZE_FS` (`fs/ext4/ext4.h`): grow to this number of blocks.
const EXT4_IOC_RESIZE_FS: Opcode = opcode::write::<u64>(b'f', 16);

/// Why there is no root file system.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RootError {
    /// The device did not appear.
    #[error("root device `{device}` not found after {} s", DEVICE_TIMEOUT.as_secs())]
    NoDevice { device: PathBuf },
    /// The device cannot be read.
    #[error("could not read the root device `{device}`")]
    Read { device: PathBuf, source: io::Error },
    /// The device does not begin with an ext4 file system.
    #[error("no ext4 file system on the root device `{device}`")]
    NotExt4 { device: PathBuf },
    /// The kernel refused to mount it.
    #[error("could not mount the root device `{device}`")]
    Mount { device: PathBuf, source: Errno },
    /// The device is no larger than its file system.
    #[error("the root device `{device}` did not grow within {} s", DEVICE_TIMEOUT.as_secs())]
    NoRoom { device: PathBuf },
    /// Whoever grows it does not come to an end.
    #[error("the file system of the root device `{device}` did not grow within {} s", DEVICE_TIMEOUT.as_secs())]
    StaysSmall { device: PathBuf },
    /// The file system could not be enlarged to the size of its device.
    #[error("could not grow the root file system to {blocks} blocks")]
    Grow { blocks: u64, source: io::Error },
}

/// Waits for the device and mounts it on `target`. Tells whether the file
/// system is smaller than the device.
pub(crate) fn mount(device: &Path, target: &Path) -> Result<bool, RootError> {
    wait_for(device)?;
    let has_room = room_to_grow(device)?.is_some();
    rustix::mount::mount(
        device,
        target,
        "ext4",
        MountFlags::empty(),
        // New groups are zeroed when they are used, not by a kernel thread
        // that would write the whole new inode tables.
        c"noinit_itable",
    )
    .map_err(|source| RootError::Mount {
        device: device.to_owned(),
        source,
    })?;
    Ok(has_room)
}

/// Starts a process that grows the root file system once init has become
/// systemd, which keeps one processor busy and leaves the others idle.
///
/// # Errors
/// When there is no process for it.
pub(crate) fn grow_beside_systemd() -> io::Result<()> {
    // systemd, which knows nothing of it, collects it.
    Command::new(AGENT_PATH)
        .arg(GROW)
        .spawn()
        .map(|_started| ())
}

/// That process.
pub(crate) fn run_growing() -> ExitCode {
    let Err(error) = grow_mounted() else {
        return ExitCode::SUCCESS;
    };
    let reason = report::chain(&error);
    report::say(&reason);
    events::send(&Event::Failed { reason: &reason });
    ExitCode::FAILURE
}

/// Waits until the root file system is as large as its device.
pub(crate) fn wait_until_grown() -> Result<(), RootError> {
    let device = root_device();
    let deadline = Instant::now() + DEVICE_TIMEOUT;
    while room_to_grow(&device)?.is_some() {
        if Instant::now() > deadline {
            return Err(RootError::StaysSmall { device });
        }
        thread::sleep(DEVICE_RETRY);
    }
    Ok(())
}

fn root_device() -> PathBuf {
    let command_line = fs::read_to_string("/proc/cmdline").unwrap_or_default();
    CommandLine::parse(&command_line).root
}

/// Grows the root file system, which is mounted, to the size of its device.
/// The kernel learns of that size when the host changes it, a little later than
/// the agent of a restored guest hears that it has.
pub(crate) fn grow_mounted() -> Result<(), RootError> {
    let device = root_device();
    let deadline = Instant::now() + DEVICE_TIMEOUT;
    let blocks = loop {
        if let Some(blocks) = room_to_grow(&device)? {
            break blocks;
        }
        if Instant::now() > deadline {
            return Err(RootError::NoRoom { device });
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

/// The number of blocks to grow to, if the device has more than are used.
fn room_to_grow(device: &Path) -> Result<Option<u64>, RootError> {
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
    Ok(size.grown(device_bytes))
}

fn grow(root: &Path, blocks: u64) -> io::Result<()> {
    let directory = fs::File::open(root)?;
    // SAFETY: the request takes a pointer to a 64-bit block count and only
    // reads it, which is what `Setter` passes.
    unsafe { rustix::ioctl::ioctl(directory, Setter::<EXT4_IOC_RESIZE_FS, u64>::new(blocks))? };
    Ok(())
}
