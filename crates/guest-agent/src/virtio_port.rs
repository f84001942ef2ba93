//! The ports of virtio-serial devices, by the names that the host gave them
//! (`virtserialport,name=`).

use std::path::PathBuf;
use std::{fs, io};

/// Where Linux lists the ports of all virtio-serial devices.
const CLASS: &str = "/sys/class/virtio-ports";

/// The device node of the port with this name. Without udev there is no
/// `/dev/virtio-ports/NAME`: the name is looked up in sysfs.
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
