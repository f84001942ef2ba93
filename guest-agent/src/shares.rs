//! Which directories of the host the seed wants mounted, and whether they are.

use std::fs;
use std::io;
use std::path::Path;

/// Where systemd keeps the credentials it was given.
pub(crate) const CREDENTIALS: &str = "/run/credentials/@system";

/// Credentials of this name are units (systemd-debug-generator(8)).
const UNIT_PREFIX: &str = "systemd.extra-unit.";
const MOUNT_SUFFIX: &str = ".mount";

/// Mount points of the mount units among the credentials in `directory`. A
/// directory that does not exist holds none.
pub(crate) fn wanted(directory: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut mount_points = Vec::new();
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with(UNIT_PREFIX) && name.ends_with(MOUNT_SUFFIX) {
            mount_points.extend(mount_point(&fs::read_to_string(entry.path())?));
        }
    }
    mount_points.sort();
    Ok(mount_points)
}

/// The value of `Where=` in a mount unit.
fn mount_point(unit: &str) -> Option<String> {
    unit.lines()
        .find_map(|line| line.trim().strip_prefix("Where="))
        .map(|path| path.trim().to_owned())
}

/// Those of `wanted` that are no mount points according to the text of
/// `/proc/self/mountinfo` (proc_pid_mountinfo(5): the fifth field).
pub(crate) fn missing<'a>(wanted: &'a [String], mountinfo: &str) -> Vec<&'a str> {
    let mounted: Vec<String> = mountinfo
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(unescape)
        .collect();
    wanted
        .iter()
        .filter(|path| !mounted.contains(path))
        .map(String::as_str)
        .collect()
}

/// Undoes the octal escapes (`\040` for a space) of mountinfo.
fn unescape(field: &str) -> String {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let code = (first == b'\\')
            .then(|| tail.get(..3))
            .flatten()
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        if let Some(code) = code {
            bytes.push(code);
            rest = &tail[3..];
        } else {
            bytes.push(first);
            rest = tail;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTINFO: &str = "\
21 1 254:0 / / rw,relatime shared:1 - ext4 /dev/root rw
30 21 0:25 / /home/dev/workspace rw shared:9 - 9p workspace rw
31 21 0:26 / /srv/with\\040space rw shared:9 - 9p share1 rw
";

    #[test]
    fn mount_points_of_units() {
        assert_eq!(
            mount_point("[Mount]\nWhat=workspace\n Where = x\nWhere=/home/dev/workspace\n"),
            Some("/home/dev/workspace".to_owned())
        );
        assert_eq!(mount_point("[Mount]\nWhat=workspace\n"), None);
    }

    #[test]
    fn what_is_not_mounted_is_missing() {
        let wanted = ["/home/dev/workspace", "/srv/with space", "/srv"].map(str::to_owned);
        assert_eq!(missing(&wanted, MOUNTINFO), ["/srv"]);
        assert_eq!(missing(&[], MOUNTINFO), [""; 0]);
    }

    #[test]
    fn only_mount_units_count() {
        let directory = std::env::temp_dir().join(format!("guest-shares-{}", std::process::id()));
        assert_eq!(wanted(&directory).unwrap(), [""; 0]);
        fs::create_dir_all(&directory).unwrap();
        for (name, text) in [
            ("systemd.extra-unit.srv.mount", "[Mount]\nWhere=/srv\n"),
            ("systemd.extra-unit.a.service", "Where=/a\n"),
            ("sandbox.network", "Where=/b\n"),
        ] {
            fs::write(directory.join(name), text).unwrap();
        }
        assert_eq!(wanted(&directory).unwrap(), ["/srv"]);
        fs::remove_dir_all(directory).unwrap();
    }
}
