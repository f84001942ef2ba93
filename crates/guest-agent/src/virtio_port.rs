//! Finds virtio-serial ports by the names that the host gave them
//! (`virtserialport,name=`).

use std::path::PathBuf;
use std::{fs, io};

/// The ports of all virtio-serial devices (`drivers/char/virtio_console.c`).
const CLASS: &str = "/sys/class/virtio-ports";

/// Returns the device node of the port with this name. It reads sysfs, since
/// only udev makes `/dev/virtio-ports/NAME`.
pub(crate) fn find(wanted: &str) -> io::Result<PathBuf> {
    for entry in fs::read_dir(CLASS)? {
        let entry = entry?;
        let name = fs::read_to_string(entry.path().join("name"));
        if name.is_ok_and(|name| name.trim_end() == wanted) {
            return Ok(PathBuf::from("/dev").join(entry.file_name()));
        }
    }
    Err(io::ErrorKind::NotFound.into())
}
