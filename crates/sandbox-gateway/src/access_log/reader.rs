//! Reads the log, and follows it across rotations.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::entry::Entry;
use super::{EARLIER_FILE, FILE};
use sandbox_host::files::FileError;

/// The longest line that is read, in bytes. The writer's lines have about a tenth of it.
const LONGEST_LINE: u64 = 8 << 10;

/// Reads a log from its start, the previous file first. Each call returns the new entries.
///
/// The reader keeps the file open, so that a rotation loses no entry.
#[derive(Debug)]
pub struct LogReader {
    directory: PathBuf,
    current: Option<BufReader<File>>,
    /// An incomplete line at the end of the file.
    partial: Vec<u8>,
    started: bool,
}

impl LogReader {
    /// Returns a reader of the log in `directory`, which need not exist yet.
    pub fn new(directory: &Path) -> Self {
        Self {
            directory: directory.to_owned(),
            current: None,
            partial: Vec::new(),
            started: false,
        }
    }

    /// Returns the entries since the last call. Ignores invalid lines.
    ///
    /// # Errors
    /// If the log exists and cannot be read.
    pub fn read_new(&mut self) -> Result<Vec<Entry>, FileError> {
        let mut entries = Vec::new();
        if !self.started {
            self.started = true;
            self.current = self.open(EARLIER_FILE)?;
        }
        loop {
            self.read_to_end(&mut entries)?;
            let next = self.open(FILE)?;
            match (&self.current, next) {
                (_, None) => return Ok(entries),
                (Some(current), Some(next)) if is_same(current, &next) => return Ok(entries),
                (_, Some(next)) => {
                    // The writer may have added lines between the last read and the rotation.
                    self.read_to_end(&mut entries)?;
                    self.partial.clear();
                    self.current = Some(next);
                }
            }
        }
    }

    fn open(&self, name: &str) -> Result<Option<BufReader<File>>, FileError> {
        let path = self.directory.join(name);
        match File::open(&path) {
            Ok(file) => Ok(Some(BufReader::new(file))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(FileError::new("read the access log", &path)(error)),
        }
    }

    fn read_to_end(&mut self, entries: &mut Vec<Entry>) -> Result<(), FileError> {
        let Some(current) = &mut self.current else {
            return Ok(());
        };
        loop {
            let read = current
                .by_ref()
                .take(LONGEST_LINE)
                .read_until(b'\n', &mut self.partial)
                .map_err(FileError::new("read the access log", &self.directory))?;
            if read == 0 {
                return Ok(());
            }
            if self.partial.last() == Some(&b'\n') || self.partial.len() as u64 >= LONGEST_LINE {
                entries.extend(serde_json::from_slice(&self.partial).ok());
                self.partial.clear();
            }
        }
    }
}

fn is_same(one: &BufReader<File>, other: &BufReader<File>) -> bool {
    let identity = |file: &BufReader<File>| -> io::Result<(u64, u64)> {
        let found: fs::Metadata = file.get_ref().metadata()?;
        Ok((found.dev(), found.ino()))
    };
    matches!((identity(one), identity(other)), (Ok(one), Ok(other)) if one == other)
}
