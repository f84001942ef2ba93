//! What the kernel of a restored guest must be told anew: randomness, the time
//! and the boot's id.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::Path;

use rustix::io::Errno;
use rustix::ioctl::{NoArg, Opcode, Setter, opcode};
use rustix::mount::MountFlags;
use rustix::time::{ClockId, Timespec};

/// Bytes of randomness that the host sends.
const ENTROPY: usize = 32;

/// `RNDADDENTROPY` (linux/random.h): mix bytes in and count them.
const ADD_ENTROPY: Opcode = opcode::write::<[i32; 2]>(b'R', 3);

/// `RNDRESEEDCRNG` (linux/random.h): use what was mixed in at once.
const RESEED: Opcode = opcode::none(b'R', 7);

/// `struct rand_pool_info` (linux/random.h) with its bytes.
#[repr(C)]
struct Pool {
    /// In bits.
    entropy_count: i32,
    /// In bytes.
    buffer_size: i32,
    buffer: [u8; ENTROPY],
}

/// Mixes the host's randomness in: all guests restored from one template would
/// make the same random numbers otherwise.
pub(crate) fn add_entropy(entropy: &[u8; ENTROPY]) -> io::Result<()> {
    let generator = OpenOptions::new().write(true).open("/dev/urandom")?;
    let length = i32::try_from(ENTROPY).expect("it is small");
    let pool = Pool {
        entropy_count: 8 * length,
        buffer_size: length,
        buffer: *entropy,
    };
    // SAFETY: the request takes a pointer to a `rand_pool_info`, followed by as
    // many bytes as it says, and only reads them.
    unsafe { rustix::ioctl::ioctl(&generator, Setter::<ADD_ENTROPY, Pool>::new(pool))? };
    // SAFETY: the request takes no argument.
    unsafe { rustix::ioctl::ioctl(&generator, NoArg::<RESEED>::new())? };
    Ok(())
}

/// Sets the clock: it went on from the moment of saving.
pub(crate) fn set_clock(nanoseconds: i64) -> io::Result<()> {
    const PER_SECOND: i64 = 1_000_000_000;
    let time = Timespec {
        tv_sec: nanoseconds.div_euclid(PER_SECOND),
        tv_nsec: nanoseconds.rem_euclid(PER_SECOND),
    };
    Ok(rustix::time::clock_settime(ClockId::Realtime, time)?)
}

/// Where programs read the id of this boot.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// What they find there from now on.
const NEW_BOOT_ID: &str = "/run/sandbox/boot_id";

/// The kernel does not change its id, so another file is mounted over it, as
/// containers have it (systemd-nspawn(1)).
pub(crate) fn renew_boot_id() -> io::Result<()> {
    let id = fs::read("/proc/sys/kernel/random/uuid")?;
    fs::write(NEW_BOOT_ID, id)?;
    rustix::mount::mount_bind(NEW_BOOT_ID, BOOT_ID)?;
    let flags = MountFlags::BIND
        | MountFlags::RDONLY
        | MountFlags::NOSUID
        | MountFlags::NODEV
        | MountFlags::NOEXEC;
    Ok(rustix::mount::mount_remount(BOOT_ID, flags, c"")?)
}

/// Forgets what it has read from disks and does not need at the moment
/// (`Documentation/admin-guide/sysctl/vm.rst`).
pub(crate) fn drop_caches() -> io::Result<()> {
    rustix::fs::sync();
    fs::write("/proc/sys/vm/drop_caches", "3")
}

/// Writes out what is held back for the file system at `path`.
pub(crate) fn sync_file_system(path: &Path) -> io::Result<()> {
    let root = File::open(path)?;
    rustix::fs::syncfs(root).map_err(|error: Errno| error.into())
}
