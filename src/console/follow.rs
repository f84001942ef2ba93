//! The live output of a console log.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::error::{ConsoleError, transfer};
use super::tail::{LONGEST_TAIL, lines, read_tail};
use sandbox_host::files::{FileError, is_same_file};
use sandbox_host::printable::sanitize;

/// The interval between two reads of the log.
const INTERVAL: Duration = Duration::from_millis(200);

/// Passes the last `count` lines of the log at `path` to `show`, then all added text.
///
/// Ends when `stop` is ready, the log is removed, or `show` returns
/// [`BrokenPipe`](io::ErrorKind::BrokenPipe).
///
/// # Errors
/// Fails if the log cannot be read, or if `show` fails.
pub async fn follow(
    path: &Path,
    count: usize,
    mut show: impl FnMut(&str) -> io::Result<()>,
    stop: impl Future<Output = ()>,
) -> Result<(), ConsoleError> {
    tokio::pin!(stop);
    let mut follower = Follower::start(path, count)?;
    let mut stopped = false;
    loop {
        let text = follower.advance()?;
        if !text.is_empty() {
            match show(&text) {
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
                shown => shown.map_err(transfer("write the output"))?,
            }
            continue;
        }
        if stopped || follower.removed {
            if follower.unfinished.is_empty() {
                return Ok(());
            }
            continue;
        }
        tokio::select! {
            () = &mut stop => stopped = true,
            () = tokio::time::sleep(INTERVAL) => {}
        }
    }
}

/// A position in a growing log.
struct Follower {
    path: PathBuf,
    file: File,
    offset: u64,
    /// The last lines at the start, which are shown first.
    begun: String,
    /// The start of an unfinished line.
    unfinished: Vec<u8>,
    removed: bool,
}

impl Follower {
    fn start(path: &Path, count: usize) -> Result<Self, ConsoleError> {
        let mut file = File::open(path).map_err(FileError::new("read", path))?;
        let (tail, offset) = read_tail(&mut file).map_err(FileError::new("read", path))?;
        let begun = lines(&tail, count)
            .iter()
            .map(|line| format!("{line}\n"))
            .collect();
        Ok(Self {
            path: path.to_owned(),
            file,
            offset,
            begun,
            unfinished: Vec::new(),
            removed: false,
        })
    }

    /// Returns the new text without control sequences; empty if there is none. Returns whole lines
    /// at once, and an unfinished line (a prompt) if nothing has followed it since the last
    /// call.
    fn advance(&mut self) -> Result<String, ConsoleError> {
        if !self.begun.is_empty() {
            return Ok(std::mem::take(&mut self.begun));
        }
        let added = self
            .read_added()
            .map_err(FileError::new("read", &self.path))?;
        let before = self.unfinished.len();
        self.unfinished.extend(&added);
        let line_feed = added.iter().rposition(|&byte| byte == b'\n');
        let ready = match line_feed {
            Some(line_feed) => before + line_feed + 1,
            None if added.is_empty() || before as u64 > LONGEST_TAIL => self.unfinished.len(),
            None => 0,
        };
        let rest = self.unfinished.split_off(ready);
        Ok(sanitize(&std::mem::replace(&mut self.unfinished, rest)))
    }

    /// Returns at most [`LONGEST_TAIL`] bytes that were added since the last call. Starts again if
    /// the log was truncated or replaced.
    fn read_added(&mut self) -> io::Result<Vec<u8>> {
        let mut added = Vec::new();
        self.file.seek(SeekFrom::Start(self.offset))?;
        Read::take(&mut self.file, LONGEST_TAIL).read_to_end(&mut added)?;
        self.offset += added.len() as u64;
        if !added.is_empty() {
            return Ok(added);
        }
        let opened = self.file.metadata()?;
        match fs::metadata(&self.path) {
            Ok(named) if !is_same_file(&opened, &named) => {
                self.file = File::open(&self.path)?;
                self.offset = 0;
            }
            Ok(_) if opened.len() < self.offset => self.offset = 0,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.removed = true,
            Err(error) => return Err(error),
        }
        Ok(added)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn follower_handles_truncation_replacement_and_unfinished_lines() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("console.log");
        fs::write(&path, "old\none\r\ntwo\r\n").unwrap();
        let mut follower = Follower::start(&path, 2).unwrap();
        assert_eq!(follower.advance().unwrap(), "one\ntwo\n");
        assert_eq!(follower.advance().unwrap(), "");

        let mut log = File::options().append(true).open(&path).unwrap();
        log.write_all(b"three\r\nlogin\x1b[0").unwrap();
        assert_eq!(follower.advance().unwrap(), "three\n");
        log.write_all(b"m: ").unwrap();
        assert_eq!(follower.advance().unwrap(), "");
        assert_eq!(follower.advance().unwrap(), "login: ");

        log.set_len(0).unwrap();
        assert_eq!(follower.advance().unwrap(), "");
        log.write_all(b"again\n").unwrap();
        assert_eq!(follower.advance().unwrap(), "again\n");

        fs::remove_file(&path).unwrap();
        fs::write(&path, "new file\n").unwrap();
        assert_eq!(follower.advance().unwrap(), "");
        assert_eq!(follower.advance().unwrap(), "new file\n");

        fs::remove_file(&path).unwrap();
        assert_eq!(follower.advance().unwrap(), "");
        assert!(follower.removed);
    }

    /// Returns the text that `follow` shows if it has to stop at once.
    async fn shown(path: &Path, count: usize) -> String {
        let mut shown = String::new();
        let show = |text: &str| {
            shown.push_str(text);
            Ok(())
        };
        follow(path, count, show, std::future::ready(()))
            .await
            .unwrap();
        shown
    }

    #[tokio::test]
    async fn follow_shows_remaining_text_before_it_stops() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("console.log");
        fs::write(&path, "one\nprompt: ").unwrap();
        assert_eq!(shown(&path, 0).await, "");
        assert_eq!(shown(&path, 10).await, "one\nprompt:\n");
    }

    #[tokio::test]
    async fn follow_ends_without_error_on_broken_pipe() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("console.log");
        fs::write(&path, "one\n").unwrap();
        let show = |_: &str| Err(io::ErrorKind::BrokenPipe.into());
        follow(&path, 10, show, std::future::pending())
            .await
            .unwrap();
    }
}
