//! The last lines of a console log.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use super::error::ConsoleError;
use sandbox_host::files::{FileError, read_if_present};
use sandbox_host::printable::sanitize;

/// The maximum number of bytes read from a log's end, since the guest decides how long the log and
/// its lines are.
pub(super) const LONGEST_TAIL: u64 = 256 * 1024;

/// Returns the last lines, at most `count`, of the console log at `path`, without control
/// sequences. Ignores empty lines at the end. A missing log is empty.
///
/// # Errors
/// [`ConsoleError::File`] if the log cannot be read.
pub fn last_lines(path: &Path, count: usize) -> Result<Vec<String>, ConsoleError> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(FileError::new("read", path)(error).into()),
    };
    let (tail, _) = read_tail(&mut file).map_err(FileError::new("read", path))?;
    Ok(lines(&tail, count))
}

/// Returns at most `count` lines of the log at `path`, from the first one that contains `word`,
/// without control sequences. Returns the first lines of the log if none does.
///
/// # Errors
/// [`ConsoleError::File`] if the log cannot be read.
pub(crate) fn lines_from(
    path: &Path,
    word: &str,
    count: usize,
) -> Result<Vec<String>, ConsoleError> {
    let head = read_if_present(path, LONGEST_TAIL)?.unwrap_or_default();
    let lines = lines(&head, usize::MAX);
    let start = lines.iter().position(|line| line.contains(word));
    Ok(lines
        .into_iter()
        .skip(start.unwrap_or_default())
        .take(count)
        .collect())
}

/// Returns at most [`LONGEST_TAIL`] bytes at the end of `file`, whole lines if possible, and the
/// offset after them.
pub(super) fn read_tail(file: &mut File) -> std::io::Result<(Vec<u8>, u64)> {
    let length = file.seek(SeekFrom::End(0))?;
    let start = length.saturating_sub(LONGEST_TAIL);
    file.seek(SeekFrom::Start(start))?;
    let mut tail = Vec::new();
    Read::take(&mut *file, LONGEST_TAIL).read_to_end(&mut tail)?;
    let end = start + tail.len() as u64;
    if start > 0
        && let Some(line_feed) = tail.iter().position(|&byte| byte == b'\n')
    {
        tail.drain(..=line_feed);
    }
    Ok((tail, end))
}

pub(super) fn lines(text: &[u8], count: usize) -> Vec<String> {
    let clean = sanitize(text);
    let lines: Vec<&str> = clean.trim_end().lines().map(str::trim_end).collect();
    let first = lines.len().saturating_sub(count);
    lines[first..].iter().map(ToString::to_string).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn last_lines_returns_the_end_of_the_log() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("console.log");
        assert!(last_lines(&path, 5).unwrap().is_empty());
        fs::write(&path, "one\r\ntwo\r\n\x1b[32mthree\x1b[0m\r\n\r\n").unwrap();
        assert_eq!(last_lines(&path, 2).unwrap(), ["two", "three"]);
        assert_eq!(last_lines(&path, 9).unwrap(), ["one", "two", "three"]);
        assert!(last_lines(&path, 0).unwrap().is_empty());
    }

    #[test]
    fn lines_from_returns_the_first_lines_of_a_report() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("qemu.log");
        let report = |count| lines_from(&path, "KVM", count).unwrap();
        assert!(report(2).is_empty());
        fs::write(&path, "warning: x\nKVM internal error.\nEAX=0\nEIP=1\n").unwrap();
        assert_eq!(report(2), ["KVM internal error.", "EAX=0"]);
        fs::write(&path, "one\ntwo\n").unwrap();
        assert_eq!(report(9), ["one", "two"]);
    }

    #[test]
    fn last_lines_bounds_huge_and_binary_logs() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("console.log");
        let file = File::create(&path).unwrap();
        // Sparse: 1 TiB without a line feed.
        file.set_len(1 << 40).unwrap();
        assert!(last_lines(&path, 3).unwrap().len() <= 1);
        let noise: Vec<u8> = (0..=255u8).cycle().take(1 << 20).collect();
        fs::write(&path, &noise).unwrap();
        let lines = last_lines(&path, 3).unwrap();
        assert_eq!(lines.len(), 3);
        assert!(lines.concat().chars().all(|c| !c.is_control() || c == '\t'));
    }
}
