//! The mounts in `/proc/self/mountinfo` (proc_pid_mountinfo(5)).

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::{fs, io};

pub(crate) const PATH: &str = "/proc/self/mountinfo";

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mount {
    /// The absolute path of the mount point.
    pub(crate) point: OsString,
    /// The type of the file system.
    pub(crate) file_system: String,
}

/// Returns all mounts, oldest first.
pub(crate) fn read() -> io::Result<Vec<Mount>> {
    Ok(parse(&fs::read(PATH)?))
}

/// Parses lines whose fifth field is the mount point. The field after a single
/// dash is the type.
fn parse(text: &[u8]) -> Vec<Mount> {
    text.split(|&byte| byte == b'\n')
        .filter_map(|line| {
            let mut fields = line.split(|&byte| byte == b' ');
            let point = OsString::from_vec(unescape(fields.nth(4)?));
            fields.find(|field| *field == b"-")?;
            let file_system = String::from_utf8_lossy(fields.next()?).into_owned();
            Some(Mount { point, file_system })
        })
        .collect()
}

/// Decodes octal escapes (`\040` for a space).
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
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
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parse_decodes_escapes_and_drops_incomplete_lines() {
        let text = b"\
21 1 254:0 / / rw,relatime shared:1 - ext4 /dev/root rw
30 21 0:25 / /home/dev/workspace rw shared:9 master:1 - 9p workspace rw
31 21 0:26 / /srv/with\\040space\\ rw - 9p share1 rw
cut short
";
        let mounts: Vec<_> = parse(text)
            .into_iter()
            .map(|mount| (mount.point.into_string().unwrap(), mount.file_system))
            .collect();
        assert_eq!(
            mounts,
            [
                ("/".into(), "ext4".into()),
                ("/home/dev/workspace".into(), "9p".into()),
                ("/srv/with space\\".to_owned(), "9p".to_owned()),
            ]
        );
    }
}
