//! Standard streams of a session.

use std::fs::File;
use std::io::{Read, Seek};
use std::os::fd::OwnedFd;

use sandbox_host::streams::Streams;

/// Returns `/dev/null` for reading: an empty input.
pub fn null() -> OwnedFd {
    File::open("/dev/null").unwrap().into()
}

/// Returns streams with an empty input and this output.
pub fn only_output(output: impl Into<OwnedFd>) -> Streams {
    Streams {
        input: null(),
        output: output.into(),
        error: null(),
    }
}

/// Temporary files that collect the output and the errors of a command.
pub struct CapturedStreams {
    output: File,
    error: File,
}

impl CapturedStreams {
    /// Creates empty files.
    pub fn new() -> Self {
        Self {
            output: tempfile::tempfile().unwrap(),
            error: tempfile::tempfile().unwrap(),
        }
    }

    /// Returns the streams of a command that reads `input` and writes to the files.
    pub fn streams(&self, input: OwnedFd) -> Streams {
        Streams {
            input,
            output: self.output.try_clone().unwrap().into(),
            error: self.error.try_clone().unwrap().into(),
        }
    }

    /// Returns all output so far.
    pub fn output(&self) -> Vec<u8> {
        contents(&self.output)
    }

    /// Returns all errors so far.
    pub fn error(&self) -> Vec<u8> {
        contents(&self.error)
    }
}

impl Default for CapturedStreams {
    fn default() -> Self {
        Self::new()
    }
}

fn contents(mut file: &File) -> Vec<u8> {
    let mut bytes = Vec::new();
    file.rewind().unwrap();
    file.read_to_end(&mut bytes).unwrap();
    bytes
}
