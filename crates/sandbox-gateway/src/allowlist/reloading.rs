//! A list whose file may change at any time.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use tokio::time::Instant;

use super::edit::LARGEST;
use super::{AllowList, Fault};
use sandbox_host::file_stamp::FileStamp;
use sandbox_host::files::read_whole_if_present;

/// An edit is seen at the first question after so long.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// The list of a file, read again when the file has changed.
///
/// It looks at the file when it is asked, and so needs no thread and no descriptor, and works on
/// file systems that tell nobody of changes. A list that is gone or cannot be read allows nothing.
#[derive(Debug)]
pub struct WatchedList {
    path: PathBuf,
    state: RefCell<State>,
}

#[derive(Debug)]
struct State {
    list: Rc<AllowList>,
    /// Why there is no content.
    unreadable: Option<String>,
    stamp: Option<FileStamp>,
    /// Whether the file may have changed since without a change of its stamp.
    uncertain: bool,
    look_again_at: Instant,
}

impl WatchedList {
    /// The list of the file at `path`, which may be absent.
    pub fn new(path: PathBuf) -> Self {
        let state = read(&path);
        tell_faults(&state, None);
        Self {
            path,
            state: RefCell::new(state),
        }
    }

    /// Makes the next question look at the file, however short ago one did.
    pub fn look_again(&self) {
        self.state.borrow_mut().look_again_at = Instant::now();
    }

    /// The list as it is now, at most 200 ms old.
    pub fn current(&self) -> Rc<AllowList> {
        let mut state = self.state.borrow_mut();
        if Instant::now() >= state.look_again_at {
            if state.uncertain || FileStamp::of(&self.path) != state.stamp {
                let new = read(&self.path);
                tell_faults(&new, Some(&state));
                *state = new;
            } else {
                state.look_again_at = Instant::now() + LOOK_AGAIN;
            }
        }
        Rc::clone(&state.list)
    }
}

fn read(path: &Path) -> State {
    let stamp = FileStamp::of(path);
    let uncertain = stamp.is_some_and(|stamp| stamp.is_fresh());
    let (content, unreadable) = match read_whole_if_present(path, LARGEST) {
        Ok(content) => (content.unwrap_or_default(), None),
        Err(error) => (Vec::new(), Some(error.source.to_string())),
    };
    let list = AllowList::parse(&String::from_utf8_lossy(&content));
    State {
        list: Rc::new(list),
        unreadable,
        stamp,
        uncertain,
        look_again_at: Instant::now() + LOOK_AGAIN,
    }
}

/// Writes what is wrong with the list into the supervisor's log, once.
fn tell_faults(new: &State, old: Option<&State>) {
    if let Some(error) = &new.unreadable
        && old.is_none_or(|old| old.unreadable != new.unreadable)
    {
        tracing::warn!(%error, "the list of allowed domains cannot be read: nothing is allowed");
    }
    if old.is_none_or(|old| old.list.faults() != new.list.faults()) {
        for Fault { line, error } in new.list.faults() {
            tracing::warn!(line, %error, "a line of the list of allowed domains is ignored");
        }
    }
}
