//! What the kernel of a restored guest must be told anew: randomness, the time
//! and the boot's id.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use rustix::io::Errno;
use rustix::ioctl::{NoArg, Opcode, Setter, opcode};
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
    let length = i32::try_from(ENTROPY).expect("32 fits into 31 bits");
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

/// Sets the clock, which went on from the moment of saving, to what the host's
/// showed so long ago.
pub(crate) fn set_clock(nanoseconds: i64, ago: Duration) -> io::Result<()> {
    const PER_SECOND: i64 = 1_000_000_000;
    let ago = i64::try_from(ago.as_nanos()).unwrap_or(0);
    let nanoseconds = nanoseconds.saturating_add(ago);
    let time = Timespec {
        tv_sec: nanoseconds.div_euclid(PER_SECOND),
        tv_nsec: nanoseconds.rem_euclid(PER_SECOND),
    };
    Ok(rustix::time::clock_settime(ClockId::Realtime, time)?)
}

/// Where programs read the id of this boot.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// What they find there instead of the kernel's.
const NEW_BOOT_ID: &str = "/run/sandbox/boot_id";

/// The kernel does not change its id, so another file is mounted over it, as
/// containers have it (systemd-nspawn(1)). This is done before the guest is
/// saved: mounts keep systemd busy, and a start has no time for that.
pub(crate) fn replace_boot_id() -> io::Result<()> {
    renew_boot_id()?;
    fs::set_permissions(NEW_BOOT_ID, fs::Permissions::from_mode(0o444))?;
    Ok(rustix::mount::mount_bind(NEW_BOOT_ID, BOOT_ID)?)
}

/// Gives this boot another id.
pub(crate) fn renew_boot_id() -> io::Result<()> {
    fs::write(NEW_BOOT_ID, fs::read("/proc/sys/kernel/random/uuid")?)
}

/// Forgets what was read from files and is not in use at the moment, but not
/// which files there are: that is little, and dear to read again
/// (`Documentation/admin-guide/sysctl/vm.rst`).
pub(crate) fn drop_page_cache() -> io::Result<()> {
    rustix::fs::sync();
    fs::write("/proc/sys/vm/drop_caches", "1")
}

/// Writes out what is held back for the file system at `path`.
pub(crate) fn sync_file_system(path: &Path) -> io::Result<()> {
    let root = File::open(path)?;
    rustix::fs::syncfs(root).map_err(|error: Errno| error.into())
}
