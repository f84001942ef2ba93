//! Kernel state that identifies a guest or depends on time: entropy, clock, boot
//! ID and caches.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use rustix::io::Errno;
use rustix::ioctl::{NoArg, Opcode, Setter, opcode};
use rustix::time::{ClockId, Timespec};

/// The number of random bytes that the host sends.
const ENTROPY_LENGTH: usize = 32;

/// `RNDADDENTROPY` (`linux/random.h`, random(4)): mix bytes in and credit them.
const ADD_ENTROPY: Opcode = opcode::write::<[i32; 2]>(b'R', 3);

/// `RNDRESEEDCRNG` (`linux/random.h`): reseed the generator at once.
const RESEED: Opcode = opcode::none(b'R', 7);

/// `struct rand_pool_info` (`linux/random.h`) and its bytes.
#[repr(C)]
struct Pool {
    /// In bits.
    entropy_count: i32,
    /// In bytes.
    buffer_size: i32,
    buffer: [u8; ENTROPY_LENGTH],
}

/// Adds the host's entropy. Otherwise all guests of one template would generate
/// the same random numbers.
pub(crate) fn add_entropy(entropy: &[u8; ENTROPY_LENGTH]) -> io::Result<()> {
    let generator = OpenOptions::new().write(true).open("/dev/urandom")?;
    let length = i32::try_from(ENTROPY_LENGTH).expect("32 fits into 31 bits");
    let pool = Pool {
        entropy_count: 8 * length,
        buffer_size: length,
        buffer: *entropy,
    };
    // SAFETY: the kernel only reads a `rand_pool_info` at the pointer of this
    // request, and as many bytes after it as `buffer_size`. `Pool` has both.
    unsafe { rustix::ioctl::ioctl(&generator, Setter::<ADD_ENTROPY, Pool>::new(pool))? };
    // SAFETY: the request takes no argument.
    unsafe { rustix::ioctl::ioctl(&generator, NoArg::<RESEED>::new())? };
    Ok(())
}

/// Sets the wall clock, which continued from the time of the save. `nanoseconds`
/// since 1970 was the host's time, `age` before now.
pub(crate) fn set_clock(nanoseconds: i64, age: Duration) -> io::Result<()> {
    const PER_SECOND: i64 = 1_000_000_000;
    let age = i64::try_from(age.as_nanos()).unwrap_or(0);
    let nanoseconds = nanoseconds.saturating_add(age);
    let time = Timespec {
        tv_sec: nanoseconds.div_euclid(PER_SECOND),
        tv_nsec: nanoseconds.rem_euclid(PER_SECOND),
    };
    Ok(rustix::time::clock_settime(ClockId::Realtime, time)?)
}

/// The boot ID (kernel documentation, `admin-guide/sysctl/kernel.rst`,
/// "random").
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// The file that is mounted over [`BOOT_ID`].
const NEW_BOOT_ID: &str = "/run/sandbox/boot_id";

/// Mounts a file over the boot ID, which the kernel never changes.
/// systemd-nspawn(1) does the same for containers. This happens before the save,
/// since a mount keeps systemd busy and would slow down every restore.
pub(crate) fn replace_boot_id() -> io::Result<()> {
    renew_boot_id()?;
    fs::set_permissions(NEW_BOOT_ID, fs::Permissions::from_mode(0o444))?;
    Ok(rustix::mount::mount_bind(NEW_BOOT_ID, BOOT_ID)?)
}

/// Writes a new boot ID to the file that [`replace_boot_id`] mounts.
pub(crate) fn renew_boot_id() -> io::Result<()> {
    fs::write(NEW_BOOT_ID, fs::read("/proc/sys/kernel/random/uuid")?)
}

/// Drops the unused page cache. Keeps the dentries and inodes, which are small
/// and slow to read again (kernel documentation, `admin-guide/sysctl/vm.rst`,
/// "drop_caches").
pub(crate) fn drop_page_cache() -> io::Result<()> {
    rustix::fs::sync();
    fs::write("/proc/sys/vm/drop_caches", "1")
}

/// Writes out the cached data of the file system at `path` (syncfs(2)).
pub(crate) fn sync_file_system(path: &Path) -> io::Result<()> {
    let root = File::open(path)?;
    rustix::fs::syncfs(root).map_err(|error: Errno| error.into())
}
