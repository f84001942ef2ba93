//! The registry: how sandboxes are claimed, launched, found, and collected once they are dead.
//!
//! Looking removes nothing: only a start of the same name, `stop` and `prune` remove what a dead
//! supervisor left.

use sandbox_host::hint::Hint;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use std::{fs, io};

use command_fds::{CommandFdExt, FdMapping};

use super::{StartPlan, StateLayout};
use crate::role::{self, Role};
use crate::supervisor::{self, Owner};
use sandbox_host::directories::Directories;
use sandbox_host::files;
use sandbox_host::files::FileError;
use sandbox_host::lock::{DirectoryLock, LockAttempt};
use sandbox_protocol::control::{Connection, Request};
use sandbox_protocol::{Record, RecordError};
use sandbox_spec::{NameError, SandboxName};

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
    /// It runs, and was to be started anew.
    #[error("the sandbox `{name}` runs already")]
    AlreadyRunning {
        /// The sandbox.
        name: SandboxName,
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
            Self::Supervisor { .. } => Some(Hint::run("doctor").then(" checks this machine")),
            Self::AlreadyRunning { name } => Some(
                Hint::text("run the command in it: ")
                    .command(format!("exec --name {name} -- COMMAND")),
            ),
            Self::OtherWorkspace { name, .. } => Some(
                Hint::text("choose another ")
                    .setting_name("name")
                    .then(", or stop that one with ")
                    .command(format!("stop {name}")),
            ),
        }
    }
}

/// The state of one name.
pub(crate) enum Claim {
    /// The name is ours to start: the lock is held, the directory empty.
    Free(DirectoryLock),
    /// A supervisor runs (or starts, or ends) under this name.
    Taken(Connection),
}

/// Claims the name for `workspace`, or connects to its supervisor. What a
/// dead supervisor left is swept on the way.
pub(crate) async fn claim(
    layout: &StateLayout,
    name: &SandboxName,
    workspace: Option<&Path>,
    request: Request,
) -> Result<Claim, LifecycleError> {
    // A sandbox without a workspace has an empty path on record.
    let workspace = workspace.unwrap_or(Path::new(""));
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
                        collect(layout, lock);
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
pub(crate) fn name_for(
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

/// Starts the supervisor for a claimed name in a process of `program` and hands it the plan; a
/// failure leaves nothing. The connection exists before the supervisor does, so that not one event
/// is missed, and so that its end tells the supervisor of our death.
pub(crate) async fn launch(
    plan: &StartPlan,
    lock: DirectoryLock,
    program: &Path,
) -> Result<Connection, LifecycleError> {
    let launched = spawn_supervisor(plan, &lock, program).await;
    if launched.is_err() {
        collect(&plan.layout, lock);
    }
    launched
}

/// Starts the supervisor for a claimed name in a thread of this process; a failure leaves nothing.
///
/// QEMU's parent-death signal is bound to the thread that forks, so that QEMU ends with this thread
/// as it does with a process.
pub(crate) async fn launch_thread(
    plan: &StartPlan,
    lock: DirectoryLock,
) -> Result<(Connection, JoinHandle<()>), LifecycleError> {
    let (listener, connection) = match control_socket(plan).await {
        Ok(both) => both,
        Err(error) => {
            collect(&plan.layout, lock);
            return Err(error);
        }
    };
    let plan = plan.clone();
    let name = plan.spec.name.clone();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let supervise = move || match runtime {
        Ok(runtime) => {
            runtime.block_on(supervisor::run(plan, lock, listener, Owner::Thread));
            runtime.shutdown_background();
        }
        Err(error) => {
            tracing::error!(%error, "the supervisor cannot run");
            collect(&plan.layout, lock);
        }
    };
    let thread = thread::Builder::new()
        .name("sandbox-supervisor".into())
        .spawn(supervise)
        .map_err(|source| LifecycleError::Supervisor { name, source })?;
    Ok((connection, thread))
}

/// Makes the control socket of a plan, and connects to it.
async fn control_socket(plan: &StartPlan) -> Result<(UnixListener, Connection), LifecycleError> {
    let layout = &plan.layout;
    if let Some(directory) = layout.short_socket_directory() {
        make_short_socket_directory(layout, directory)?;
    }
    let socket = layout.control_socket();
    let listener = UnixListener::bind(&socket).map_err(FileError::new("listen at", &socket))?;
    let connection = Connection::open(&socket, Request::Hold)
        .await
        .map_err(|source| LifecycleError::Supervisor {
            name: plan.spec.name.clone(),
            source,
        })?;
    Ok((listener, connection))
}

/// Takes a directory for a guest that is no sandbox, of which nobody else may
/// use it; [`collect`] removes it. What a dead owner left is swept first.
pub(crate) fn occupy(layout: &StateLayout) -> Result<DirectoryLock, LifecycleError> {
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
    program: &Path,
) -> Result<Connection, LifecycleError> {
    let layout = &plan.layout;
    let failed = |source| LifecycleError::Supervisor {
        name: plan.spec.name.clone(),
        source,
    };
    let (listener, connection) = control_socket(plan).await?;
    let log_path = layout.supervisor_log();
    files::write_private_volatile(&log_path, b"")?;
    let log = fs::File::options()
        .append(true)
        .open(&log_path)
        .map_err(FileError::new("open", &log_path))?;
    let mut command = role::command(program, plan.spec.name.as_str());
    command
        .stdout(log.try_clone().map_err(failed)?)
        .stderr(log)
        .fd_mappings(vec![
            FdMapping {
                parent_fd: lock.as_fd().try_clone_to_owned().map_err(failed)?,
                child_fd: role::LOCK_DESCRIPTOR,
            },
            FdMapping {
                parent_fd: OwnedFd::from(listener),
                child_fd: role::CONTROL_DESCRIPTOR,
            },
        ])
        .map_err(|error| failed(io::Error::other(error)))?;
    role::start(&mut command, &Role::Supervise(Box::new(plan.clone()))).map_err(failed)?;
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
pub(crate) fn owner(layout: &StateLayout) -> Result<Option<PathBuf>, FileError> {
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
pub(crate) fn collect(layout: &StateLayout, lock: DirectoryLock) {
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
        let is_current = |record: &Record| record.is_current();
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

/// Every sandbox of the user that some process owns, sorted by name. Removes nothing.
pub(crate) fn list(directories: &Directories) -> Result<Vec<Found>, LifecycleError> {
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

/// The sandbox of this name, if some process owns it. Removes nothing.
pub(crate) fn find(
    directories: &Directories,
    name: &SandboxName,
) -> Result<Option<Found>, LifecycleError> {
    let layout = StateLayout::new(directories, name);
    Ok(is_owned(&layout).then(|| Found::new(name.clone(), layout)))
}

/// Whether some process owns the sandbox of this layout.
pub(crate) fn is_owned(layout: &StateLayout) -> bool {
    DirectoryLock::is_held(&layout.lock())
}

/// Collects what a dead supervisor left, if one did. True if something was removed.
pub(crate) fn collect_if_dead(layout: &StateLayout) -> bool {
    if !layout.lock().exists() || is_owned(layout) {
        return false;
    }
    match DirectoryLock::try_acquire(&layout.lock()) {
        Ok(LockAttempt::Acquired(lock)) => {
            collect(layout, lock);
            true
        }
        _ => false,
    }
}
