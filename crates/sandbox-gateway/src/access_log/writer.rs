//! Writes the log.

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::entry::Entry;
use super::flow_start::FlowStart;
use super::{EARLIER_FILE, FILE, LARGEST};
use sandbox_host::files::FileError;
use sandbox_spec::policy::{Reason, RuleName};

/// The denials that are written without a pause. A guest that retries in a loop must not push all
/// other lines out of the log.
const BURST: u32 = 200;
/// The time after which one more denial may be written.
const REFILL: Duration = Duration::from_millis(20);

/// The access log of one sandbox. It writes each line with one system call when the flow has
/// ended, so that readers see whole lines.
pub struct AccessLog {
    directory: PathBuf,
    state: RefCell<State>,
}

struct State {
    file: File,
    broken: bool,
    allowance: u32,
    refilled: Instant,
    suppressed: u64,
}

impl AccessLog {
    /// Opens the log in `directory`, which must exist. Keeps the lines of earlier sandboxes.
    ///
    /// # Errors
    /// If the file cannot be opened.
    pub fn open(directory: &Path) -> Result<Rc<Self>, FileError> {
        let file = append_to(directory)?;
        Ok(Rc::new(Self {
            directory: directory.to_owned(),
            state: RefCell::new(State {
                file,
                broken: false,
                allowance: BURST,
                refilled: Instant::now(),
                suppressed: 0,
            }),
        }))
    }

    /// Writes the line of a denial. Only counts it if there were too many.
    pub fn denied(&self, flow: FlowStart, rule: &RuleName, reason: Reason) {
        let admitted = self.state.borrow_mut().admit();
        if let Some(suppressed) = admitted {
            self.write(&Entry {
                suppressed,
                ..flow.denied(rule, reason)
            });
        }
    }

    /// Writes a line. A failure does not stop the network. The first one of a series is logged.
    pub(super) fn write(&self, entry: &Entry) {
        let mut line = serde_json::to_vec(entry).expect("an entry has only keys of text");
        line.push(b'\n');
        let mut state = self.state.borrow_mut();
        match state.append(&line, &self.directory) {
            Ok(()) => state.broken = false,
            Err(error) if !state.broken => {
                state.broken = true;
                tracing::warn!(%error, "could not write the access log");
            }
            Err(_) => {}
        }
    }
}

impl State {
    fn append(&mut self, line: &[u8], directory: &Path) -> io::Result<()> {
        let length = line.len() as u64;
        // The sandboxes of one directory share a log. Another one may have written to this file, or
        // rotated it already.
        if self.size()? + length > LARGEST {
            self.file = append_to(directory).map_err(|error| error.source)?;
            if self.size()? + length > LARGEST {
                std::fs::rename(directory.join(FILE), directory.join(EARLIER_FILE))?;
                self.file = append_to(directory).map_err(|error| error.source)?;
            }
        }
        self.file.write_all(line)
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    /// Returns the number of suppressed denials if one more may be written now.
    fn admit(&mut self) -> Option<u64> {
        let earned = self.refilled.elapsed().as_nanos() / REFILL.as_nanos();
        if earned > 0 {
            let earned = u32::try_from(earned).unwrap_or(BURST);
            self.allowance = self.allowance.saturating_add(earned).min(BURST);
            self.refilled = Instant::now();
        }
        if self.allowance == 0 {
            self.suppressed += 1;
            return None;
        }
        self.allowance -= 1;
        Some(std::mem::take(&mut self.suppressed))
    }
}

fn append_to(directory: &Path) -> Result<File, FileError> {
    let path = directory.join(FILE);
    let mut options = File::options();
    let options = options.append(true).create(true).mode(0o600);
    options
        .open(&path)
        .map_err(FileError::new("open the access log", &path))
}
