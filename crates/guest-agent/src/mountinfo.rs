//! What is mounted where, by `/proc/self/mountinfo` (proc_pid_mountinfo(5)).

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::{fs, io};

/// Where the kernel tells it.
pub(crate) const PATH: &str = "/proc/self/mountinfo";

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mount {
    /// Where: an absolute path.
    pub(crate) point: OsString,
    /// The type of file system.
    pub(crate) kind: String,
}

/// All mounts, in the order in which they were made.
pub(crate) fn read() -> io::Result<Vec<Mount>> {
    Ok(parse(&fs::read(PATH)?))
}

/// The fifth field of a line is the mount point; the type is the first one
/// after a field of a single dash.
fn parse(text: &[u8]) -> Vec<Mount> {
    text.split(|&byte| byte == b'\n')
        .filter_map(|line| {
            let mut fields = line.split(|&byte| byte == b' ');
            let point = OsString::from_vec(unescape(fields.nth(4)?));
            fields.find(|field| *field == b"-")?;
            let kind = String::from_utf8_lossy(fields.next()?).into_owned();
            Some(Mount { point, kind })
        })
        .collect()
}

/// Undoes the octal escapes (`\040` for a space).
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
    fn mounts_of_all_kinds() {
        let text = b"\
21 1 254:0 / / rw,relatime shared:1 - ext4 /dev/root rw
30 21 0:25 / /home/dev/workspace rw shared:9 master:1 - 9p workspace rw
31 21 0:26 / /srv/with\\040space\\ rw - 9p share1 rw
cut short
";
        let mounts: Vec<_> = parse(text)
            .into_iter()
            .map(|mount| (mount.point.into_string().unwrap(), mount.kind))
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
