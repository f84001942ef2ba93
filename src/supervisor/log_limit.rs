//! Keeps the console's log bounded: a guest may print for ever.

use std::fs::{self, File};
use std::io;

use crate::StateLayout;

/// The size at which the log is set aside. Together with the part before, at
/// most twice as much lies on the disk.
const LIMIT: u64 = 8 << 20;

/// Sets the log aside and empties it, if it has grown too large. QEMU appends
/// (`logappend=on`), so it goes on at the new end.
pub(super) fn enforce(layout: &StateLayout) -> io::Result<()> {
    let log = layout.console_log();
    if fs::metadata(&log)?.len() <= LIMIT {
        return Ok(());
    }
    fs::copy(&log, layout.console_log_rotated())?;
    File::options().write(true).open(&log)?.set_len(0)
}
