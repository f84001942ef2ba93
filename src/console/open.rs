//! The connection to a console: sends input and waits for output.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sandbox_host::files::FileError;
use sandbox_host::printable::sanitize;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::time::{Instant, sleep};

use super::error::ConsoleError;

/// The interval between two reads of the log.
const INTERVAL: Duration = Duration::from_millis(50);

/// The maximum number of log bytes in one search, since the guest decides how much it prints.
const WINDOW: usize = 256 << 10;

/// A connection to a sandbox's serial console.
///
/// Reads the output from the console log, which QEMU writes. So it also includes the output before
/// the connection.
#[derive(Debug)]
pub struct Console {
    socket: UnixStream,
    log: PathBuf,
    /// The offset of the log's first byte that no wait has consumed.
    offset: u64,
}

impl Console {
    /// Connects to the socket of a console whose log is at `log`.
    pub(crate) async fn open(socket: &Path, log: &Path) -> Result<Self, ConsoleError> {
        let connected = UnixStream::connect(socket).await;
        Ok(Self {
            socket: connected.map_err(|source| ConsoleError::Connect {
                path: socket.into(),
                source,
            })?,
            log: log.into(),
            offset: 0,
        })
    }

    /// Sends `bytes` as input.
    ///
    /// # Errors
    /// [`ConsoleError::Transfer`] if the connection breaks.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) -> Result<(), ConsoleError> {
        let sent = self.socket.write_all(bytes.as_ref()).await;
        sent.map_err(|source| ConsoleError::Transfer {
            action: "write to the console",
            source,
        })
    }

    /// Waits until the console has printed `pattern`. Returns the output up to the end of the
    /// match, without control sequences. The first call searches all output since the start. Each
    /// later call searches the output after the last match.
    ///
    /// # Errors
    /// [`ConsoleError::Deadline`] after `timeout`, [`ConsoleError::File`] if the log cannot be
    /// read.
    pub async fn wait_for(
        &mut self,
        pattern: &str,
        timeout: Duration,
    ) -> Result<String, ConsoleError> {
        let deadline = Instant::now() + timeout;
        loop {
            let printed = self.unread()?;
            if let Some(end) = find(&printed, pattern.as_bytes()) {
                let text = printed.get(..end).unwrap_or_default();
                self.offset += end as u64;
                return Ok(sanitize(text));
            }
            if Instant::now() >= deadline {
                return Err(ConsoleError::Deadline {
                    pattern: pattern.into(),
                    waited: timeout,
                });
            }
            // Keeps the end of the window, which may contain the start of the pattern.
            let done = printed.len().saturating_sub(pattern.len());
            if printed.len() >= WINDOW {
                self.offset += done as u64;
            } else {
                sleep(INTERVAL).await;
            }
        }
    }

    /// Returns the output after the last match, at most [`WINDOW`] bytes.
    fn unread(&mut self) -> Result<Vec<u8>, ConsoleError> {
        let mut printed = Vec::new();
        let read = File::open(&self.log).and_then(|mut log| {
            // A shorter log was rotated, so it starts again.
            let length = log.metadata()?.len();
            if length < self.offset {
                self.offset = 0;
            }
            log.seek(SeekFrom::Start(self.offset))?;
            log.take(WINDOW as u64).read_to_end(&mut printed)
        });
        read.map_err(FileError::new("read", &self.log))?;
        Ok(printed)
    }
}

/// Returns the end of the first `pattern` in `text`.
fn find(text: &[u8], pattern: &[u8]) -> Option<usize> {
    if pattern.is_empty() {
        return Some(0);
    }
    let windows = text.windows(pattern.len());
    let start = windows.into_iter().position(|window| window == pattern)?;
    Some(start + pattern.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn wait_continues_after_the_last_match() {
        let directory = tempfile::tempdir().unwrap();
        let (socket, log) = (directory.path().join("s"), directory.path().join("log"));
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        std::fs::write(&log, "boot\r\nlogin: a\r\nlogin: b\r\n").unwrap();
        let mut console = Console::open(&socket, &log).await.unwrap();
        let first = console.wait_for("login:", Duration::ZERO).await.unwrap();
        assert_eq!(first, "boot\nlogin:");
        let second = console.wait_for("login:", Duration::ZERO).await.unwrap();
        assert_eq!(second, " a\nlogin:");
        let error = console
            .wait_for("login:", Duration::ZERO)
            .await
            .unwrap_err();
        assert!(matches!(error, ConsoleError::Deadline { .. }), "{error}");
    }
}
