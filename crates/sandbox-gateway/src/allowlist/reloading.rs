//! An allowlist that is read again when its file changes.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use tokio::time::Instant;

use super::edit::LARGEST;
use super::{AllowList, Fault};
use sandbox_host::file_stamp::FileStamp;
use sandbox_host::files::read_whole_if_present;

/// The time between two checks of the file. A lookup after an edit and this time sees the edit.
const CHECK_INTERVAL: Duration = Duration::from_millis(200);

/// The allowlist of a file, which a lookup reads again if the file has changed.
///
/// It checks the file on demand. So it needs no thread and no descriptor, and works on file systems
/// without change notifications. A missing or unreadable file allows no name.
#[derive(Debug)]
pub struct ReloadingList {
    path: PathBuf,
    state: RefCell<State>,
}

#[derive(Debug)]
struct State {
    list: Rc<AllowList>,
    /// The error of an unreadable file.
    read_error: Option<String>,
    stamp: Option<FileStamp>,
    /// Whether the file can have changed since without a change of its stamp.
    may_be_stale: bool,
    next_check: Instant,
}

impl ReloadingList {
    /// Reads the file at `path`, which need not exist.
    pub fn new(path: PathBuf) -> Self {
        let state = read(&path);
        log_faults(&state, None);
        Self {
            path,
            state: RefCell::new(state),
        }
    }

    /// Makes the next lookup check the file.
    pub fn check_now(&self) {
        self.state.borrow_mut().next_check = Instant::now();
    }

    /// Returns the allowlist. Its last check was at most 200 ms ago.
    pub fn current(&self) -> Rc<AllowList> {
        let mut state = self.state.borrow_mut();
        if Instant::now() >= state.next_check {
            if state.may_be_stale || FileStamp::of(&self.path) != state.stamp {
                let new = read(&self.path);
                log_faults(&new, Some(&state));
                *state = new;
            } else {
                state.next_check = Instant::now() + CHECK_INTERVAL;
            }
        }
        Rc::clone(&state.list)
    }
}

fn read(path: &Path) -> State {
    let stamp = FileStamp::of(path);
    let may_be_stale = stamp.is_some_and(|stamp| stamp.is_fresh());
    let (content, read_error) = match read_whole_if_present(path, LARGEST) {
        Ok(content) => (content.unwrap_or_default(), None),
        Err(error) => (Vec::new(), Some(error.source.to_string())),
    };
    let list = AllowList::parse(&String::from_utf8_lossy(&content));
    State {
        list: Rc::new(list),
        read_error,
        stamp,
        may_be_stale,
        next_check: Instant::now() + CHECK_INTERVAL,
    }
}

/// Logs a new read error and new invalid lines.
fn log_faults(new: &State, old: Option<&State>) {
    if let Some(error) = &new.read_error
        && old.is_none_or(|old| old.read_error != new.read_error)
    {
        tracing::warn!(%error, "could not read the allowlist: no domain is allowed");
    }
    if old.is_none_or(|old| old.list.faults() != new.list.faults()) {
        for Fault { line, error } in new.list.faults() {
            tracing::warn!(line, %error, "ignored an invalid line of the allowlist");
        }
    }
}
