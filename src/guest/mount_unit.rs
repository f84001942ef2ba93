//! The systemd mount unit of a 9p share.

use sandbox_spec::GuestPath;

/// Returns the mount options of a 9p share, in the order of mount(8)'s `-o`.
///
/// `directio` sends every read and write to the host, so no read is stale. Without it, a read of a
/// file that a process in the guest holds open can return old content. `cache=mmap` caches the
/// pages of mapped files only. Shared writable mappings need it, for example SQLite's write-ahead
/// log. The kernel accepts at most 512000 for `msize`, the bytes of one request (Linux,
/// net/9p/trans_virtio.c).
pub(crate) fn options(read_only: bool) -> String {
    let mut options =
        String::from("trans=virtio,version=9p2000.L,msize=512000,cache=mmap,directio");
    if read_only {
        options.push_str(",ro");
    }
    options
}

/// Returns the unit that mounts the share `tag` at `mount_point`.
///
/// It has only the necessary dependencies, so systemd mounts it long before the rest of the system
/// is up. Its output does not go to the journal, since systemd would order it after the journal's
/// socket.
pub(crate) fn content(tag: &str, mount_point: &GuestPath, read_only: bool) -> String {
    format!(
        "[Unit]\n\
         Description=Share {tag} of the host at {mount_point}\n\
         DefaultDependencies=no\n\
         Conflicts=umount.target\n\
         Before=umount.target\n\
         \n\
         [Mount]\n\
         What={tag}\n\
         Where={}\n\
         Type=9p\n\
         Options={}\n\
         StandardOutput=null\n\
         StandardError=file:/dev/console\n",
        mount_point.as_str().replace('%', "%%"),
        options(read_only)
    )
}

/// Returns the name that systemd requires for the mount unit of a path
/// (systemd.unit(5), "String Escaping for Inclusion in Unit Names").
pub(crate) fn name(mount_point: &GuestPath) -> String {
    let mut name = String::new();
    for (index, byte) in mount_point.as_str().bytes().skip(1).enumerate() {
        match byte {
            b'/' => name.push('-'),
            b'.' if index == 0 => name.push_str("\\x2e"),
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b':' | b'_' | b'.' => {
                name.push(char::from(byte));
            }
            _ => name.push_str(&format!("\\x{byte:02x}")),
        }
    }
    name.push_str(".mount");
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_is_escaped_like_systemd_escape() {
        for (path, expected) in [
            ("/home/dev/workspace", "home-dev-workspace.mount"),
            ("/mnt/my-data", "mnt-my\\x2ddata.mount"),
            ("/.hidden/a b", "\\x2ehidden-a\\x20b.mount"),
            ("/ü", "\\xc3\\xbc.mount"),
        ] {
            assert_eq!(name(&path.parse().unwrap()), expected);
        }
    }

    #[test]
    fn content_escapes_percent_signs() {
        let unit = content("share1", &"/mnt/100%h".parse().unwrap(), true);
        assert!(unit.contains("\nWhere=/mnt/100%%h\n"));
        assert!(unit.contains(",ro\n"));
    }
}
