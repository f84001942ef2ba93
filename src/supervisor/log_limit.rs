//! The size limit of the console log, since a guest may print forever.

use std::fs::{self, File};
use std::io;

use crate::StateLayout;

/// The size at which the log is rotated, in bytes. With the rotated part, the logs take at most
/// twice as much.
const LIMIT: u64 = 8 << 20;

/// Rotates the log once it exceeds its limit. QEMU appends to it (`logappend=on`), so QEMU
/// continues at the new end.
pub(super) fn enforce(layout: &StateLayout) -> io::Result<()> {
    let log = layout.console_log();
    if fs::metadata(&log)?.len() <= LIMIT {
        return Ok(());
    }
    fs::copy(&log, layout.console_log_rotated())?;
    File::options().write(true).open(&log)?.set_len(0)
}
