//! How commands find, start, join and stop sandboxes.

use sandbox_host::hint::Hint;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;
use std::{fs, io};

use command_fds::{CommandFdExt, FdMapping};

use super::{StartPlan, StateLayout};
use sandbox_host::directories::Directories;
use sandbox_host::files;
use sandbox_host::files::FileError;
use sandbox_host::lock::{DirectoryLock, LockAttempt};
use sandbox_protocol::control::{Connection, Request};
use sandbox_protocol::{Record, RecordError};
use sandbox_spec::{NameError, SandboxName};

/// The descriptor on which a supervisor inherits its lock.
pub const LOCK_DESCRIPTOR: i32 = 3;
/// The descriptor on which a supervisor inherits its control socket.
pub const CONTROL_DESCRIPTOR: i32 = 4;

/// Between two looks at a state that another process is about to change.
const RETRY: Duration = Duration::from_millis(10);

/// What finding or starting a sandbox can fail with.
#[derive(Debug, thiserror::Error)]
pub enum LifecycleError {
    /// No usable name.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A file of the state could not be used.
    #[error(transparent)]
    File(#[from] FileError),
    /// A record could not be used.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The supervisor could not be started.
    #[error("could not start the supervisor of `{name}`")]
    Supervisor {
        /// The sandbox.
        name: SandboxName,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// A name given by the user belongs to another directory.
    #[error("the sandbox `{name}` belongs to `{}`", workspace.display())]
    OtherWorkspace {
        /// The sandbox.
        name: SandboxName,
        /// Whose it is.
        workspace: PathBuf,
    },
}

impl LifecycleError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<Hint> {
        match self {
            Self::Name(error) => error.hint(),
            Self::File(error) => error.hint(),
            Self::Record(error) => error.hint(),
            Self::Supervisor { .. } => Some("`sandbox doctor` checks this machine".into()),
            Self::OtherWorkspace { name, .. } => Some(
                format!("choose another `--name`, or stop that one with `sandbox stop {name}`")
                    .into(),
            ),
        }
    }
}

/// The state of one name.
pub enum Claim {
    /// The name is ours to start: the lock is held, the directory empty.
    Free(DirectoryLock),
    /// A supervisor runs (or starts, or ends) under this name.
    Taken(Connection),
}

/// Claims the name for `workspace`, or connects to its supervisor. What a
/// dead supervisor left is swept on the way.
pub async fn claim(
    layout: &StateLayout,
    name: &SandboxName,
    workspace: &Path,
    request: Request,
) -> Result<Claim, LifecycleError> {
    loop {
        files::create_private_directory(layout.directory())?;
        match DirectoryLock::try_acquire(&layout.lock()) {
            Ok(LockAttempt::Acquired(lock)) => {
                clear(layout, read_record(layout).as_ref());
                let owner = format!("{}\n", workspace.display());
                let written =
                    files::write_private_volatile(&layout.workspace_path(), owner.as_bytes());
                return match written {
                    Ok(()) => Ok(Claim::Free(lock)),
                    Err(error) => {
                        sweep(layout, lock);
                        Err(error.into())
                    }
                };
            }
            Ok(LockAttempt::Busy) => match owner(layout)? {
                Some(owner) if owner != workspace => {
                    return Err(LifecycleError::OtherWorkspace {
                        name: name.clone(),
                        workspace: owner,
                    });
                }
                Some(_) => {
                    if let Ok(connection) =
                        Connection::open(&layout.control_socket(), request.clone()).await
                    {
                        return Ok(Claim::Taken(connection));
                    }
                }
                None => {}
            },
            // Its last owner has just removed the directory.
            Err(error) if error.source.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// The layout and name that belong to a workspace: the directory's own name,
/// or that with a hash where another workspace has it.
pub fn name_for(
    directories: &Directories,
    workspace: &Path,
) -> Result<SandboxName, LifecycleError> {
    let hashed = SandboxName::for_directory_with_hash(workspace);
    if let Ok(hashed) = &hashed {
        let layout = StateLayout::new(directories, hashed);
        if DirectoryLock::is_held(&layout.lock()) {
            return Ok(hashed.clone());
        }
    }
    let plain = SandboxName::for_directory(workspace)?;
    let layout = StateLayout::new(directories, &plain);
    match owner(&layout)? {
        Some(owner) if owner != workspace && DirectoryLock::is_held(&layout.lock()) => Ok(hashed?),
        _ => Ok(plain),
    }
}

/// Starts the supervisor for a claimed name and hands it the plan; a failure
/// leaves nothing. The connection exists before the supervisor does, so that
/// not one event is missed, and so that its end tells the supervisor of our
/// death.
pub async fn launch(plan: &StartPlan, lock: DirectoryLock) -> Result<Connection, LifecycleError> {
    let launched = spawn_supervisor(plan, &lock).await;
    if launched.is_err() {
        sweep(&plan.layout, lock);
    }
    launched
}

/// Takes a directory for a guest that is no sandbox, of which nobody else may
/// use it; [`sweep`] removes it. What a dead owner left is swept first.
pub fn occupy(layout: &StateLayout) -> Result<DirectoryLock, LifecycleError> {
    files::create_private_directory(layout.directory())?;
    match DirectoryLock::try_acquire(&layout.lock())? {
        LockAttempt::Acquired(lock) => {
            clear(layout, None);
            if let Some(directory) = layout.short_socket_directory() {
                make_short_socket_directory(layout, directory)?;
            }
            Ok(lock)
        }
        LockAttempt::Busy => Err(FileError::new("use", layout.directory())(
            io::ErrorKind::ResourceBusy.into(),
        )
        .into()),
    }
}

async fn spawn_supervisor(
    plan: &StartPlan,
    lock: &DirectoryLock,
) -> Result<Connection, LifecycleError> {
    let layout = &plan.layout;
    let failed = |source| LifecycleError::Supervisor {
        name: plan.spec.name.clone(),
        source,
    };
    if let Some(directory) = layout.short_socket_directory() {
        make_short_socket_directory(layout, directory)?;
    }
    let socket = layout.control_socket();
    let listener = UnixListener::bind(&socket).map_err(FileError::new("listen at", &socket))?;
    let connection = Connection::open(&socket, Request::Hold)
        .await
        .map_err(failed)?;
    let log_path = layout.supervisor_log();
    files::write_private_volatile(&log_path, b"")?;
    let log = fs::File::options()
        .append(true)
        .open(&log_path)
        .map_err(FileError::new("open", &log_path))?;
    let mut command = Command::new("/proc/self/exe");
    command
        .arg0("sandbox")
        .args(["supervise", plan.spec.name.as_str()])
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(log.try_clone().map_err(failed)?)
        .stderr(log)
        .fd_mappings(vec![
            FdMapping {
                parent_fd: lock.as_fd().try_clone_to_owned().map_err(failed)?,
                child_fd: LOCK_DESCRIPTOR,
            },
            FdMapping {
                parent_fd: OwnedFd::from(listener),
                child_fd: CONTROL_DESCRIPTOR,
            },
        ])
        .map_err(|error| failed(io::Error::other(error)))?;
    // SAFETY: `setsid` is a system call and allocates nothing.
    unsafe {
        command.pre_exec(|| nix::unistd::setsid().map(drop).map_err(io::Error::from));
    }
    let mut child = command.spawn().map_err(failed)?;
    let plan = serde_json::to_vec(plan).map_err(|error| failed(error.into()))?;
    let mut stdin = child
        .stdin
        .take()
        .ok_or_else(|| failed(io::ErrorKind::BrokenPipe.into()))?;
    // A supervisor reads its plan before anything else: this cannot block for
    // longer than that takes.
    io::Write::write_all(&mut stdin, &plan).map_err(failed)?;
    Ok(connection)
}

/// Sockets of a state directory with a long path lie in a short one; links in
/// the state directory show where.
fn make_short_socket_directory(layout: &StateLayout, directory: &Path) -> Result<(), FileError> {
    use std::os::unix::fs::{MetadataExt, symlink};
    files::create_private_directory(directory)?;
    let found = fs::symlink_metadata(directory).map_err(FileError::new("look at", directory))?;
    // In a directory that everyone may write (`/tmp`), it could be another
    // user's.
    if !found.is_dir()
        || found.uid() != nix::unistd::geteuid().as_raw()
        || found.mode() & 0o077 != 0
    {
        return Err(FileError::new("use the directory", directory)(
            io::ErrorKind::PermissionDenied.into(),
        ));
    }
    for socket in layout.socket_paths() {
        if let Some(name) = socket.file_name() {
            let link = layout.directory().join(name);
            symlink(&socket, &link).map_err(FileError::new("link", &link))?;
        }
    }
    Ok(())
}

/// The workspace that a name belongs to.
pub fn owner(layout: &StateLayout) -> Result<Option<PathBuf>, FileError> {
    use std::os::unix::ffi::OsStringExt;
    /// The longest path that Linux takes (PATH_MAX), and a newline.
    const LIMIT: u64 = 4097;
    let content = files::read_if_present(&layout.workspace_path(), LIMIT)?;
    Ok(content.and_then(|mut content| {
        // Without the newline, it is just being written.
        (content.pop() == Some(b'\n')).then(|| std::ffi::OsString::from_vec(content).into())
    }))
}

/// Removes all that a sandbox left, its QEMU if that still runs, and frees the
/// lock. Never fails: what cannot be removed is logged and swept next time.
pub fn sweep(layout: &StateLayout, lock: DirectoryLock) {
    clear(layout, read_record(layout).as_ref());
    for result in [
        files::remove_file_if_present(&layout.workspace_path()),
        files::remove_file_if_present(&layout.lock()),
    ] {
        log_failure(result);
    }
    // Not empty if somebody has claimed the name in this moment.
    drop(fs::remove_dir(layout.directory()));
    drop(lock);
}

fn read_record(layout: &StateLayout) -> Option<Record> {
    Record::read(&layout.record()).unwrap_or_else(|error| {
        tracing::warn!(%error, "a damaged record is swept");
        None
    })
}

/// Empties a state directory whose lock is held, but for the lock.
fn clear(layout: &StateLayout, record: Option<&Record>) {
    if let Some(record) = record {
        if let Some(qemu) = record.qemu {
            qemu.kill_if_marked(layout.directory());
        }
        if let Some(alias) = &record.alias_file {
            log_failure(files::remove_file_if_present(alias));
        }
    }
    if let Some(directory) = layout.short_socket_directory() {
        log_failure(files::remove_tree_if_present(directory));
    }
    let entries = match fs::read_dir(layout.directory()) {
        Ok(entries) => entries,
        Err(error) => {
            tracing::warn!(%error, "the state directory cannot be read");
            return;
        }
    };
    for entry in entries.flatten() {
        let path = entry.path();
        if path == layout.lock() {
            continue;
        }
        log_failure(match entry.file_type() {
            Ok(kind) if kind.is_dir() => files::remove_tree_if_present(&path),
            _ => files::remove_file_if_present(&path),
        });
    }
}

fn log_failure(result: Result<(), FileError>) {
    if let Err(error) = result {
        tracing::warn!(
            error = &error as &dyn std::error::Error,
            "something of a sandbox stays"
        );
    }
}

/// A sandbox that some process owns right now.
#[derive(Debug)]
pub struct Found {
    /// Its name.
    pub name: SandboxName,
    /// Where its state lies.
    pub layout: StateLayout,
    /// What is known of it: nothing while it is just being made or removed,
    /// and an error where the record is damaged or another version's.
    pub record: Result<Option<Record>, RecordError>,
}

impl Found {
    pub(super) fn new(name: SandboxName, layout: StateLayout) -> Self {
        // What a dead supervisor left is no record of what runs.
        let is_current = |record: &Record| record.supervisor.is_alive(name.as_str().as_ref());
        let record = Record::read(&layout.record()).map(|record| record.filter(is_current));
        Self {
            name,
            layout,
            record,
        }
    }

    /// The record, where there is one to be read.
    pub fn record(&self) -> Option<&Record> {
        self.record.as_ref().ok()?.as_ref()
    }
}

/// Every sandbox of the user, sorted by name. What dead ones left is swept.
pub fn list(directories: &Directories) -> Result<Vec<Found>, LifecycleError> {
    let mut found = Vec::new();
    for name in names(directories)? {
        found.extend(find(directories, &name)?);
    }
    Ok(found)
}

/// Names that have a state directory, sorted.
pub(super) fn names(directories: &Directories) -> Result<Vec<SandboxName>, LifecycleError> {
    let parent = directories.sandboxes();
    let entries = match fs::read_dir(&parent) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(FileError::new("read the directory", parent)(error).into()),
    };
    let mut names: Vec<SandboxName> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    names.sort();
    Ok(names)
}

/// The sandbox of this name, if some process owns it. What a dead one left is
/// swept.
pub fn find(
    directories: &Directories,
    name: &SandboxName,
) -> Result<Option<Found>, LifecycleError> {
    let layout = StateLayout::new(directories, name);
    if !layout.lock().exists() {
        return Ok(None);
    }
    if DirectoryLock::is_held(&layout.lock()) {
        return Ok(Some(Found::new(name.clone(), layout)));
    }
    if let Ok(LockAttempt::Acquired(lock)) = DirectoryLock::try_acquire(&layout.lock()) {
        sweep(&layout, lock);
    }
    Ok(None)
}
