//! The registry of sandboxes: claims names, launches supervisors, finds running sandboxes, and
//! removes the state of dead ones.
//!
//! Finding removes nothing. Only a start of the same name, `stop` and `prune` remove the state that
//! a dead supervisor left.

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

/// The interval between two attempts to claim a name.
const RETRY: Duration = Duration::from_millis(10);

/// A failure to find, claim or launch a sandbox.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The name is invalid.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A file in the state directory failed.
    #[error(transparent)]
    File(#[from] FileError),
    /// A record could not be read.
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
    /// The sandbox already runs, and the caller asked for a fresh one.
    #[error("the sandbox `{name}` is already running")]
    AlreadyRunning {
        /// The sandbox.
        name: SandboxName,
    },
    /// A name given by the user belongs to another directory.
    #[error("the sandbox `{name}` belongs to `{}`", workspace.display())]
    OtherWorkspace {
        /// The sandbox.
        name: SandboxName,
        /// The directory that the name belongs to.
        workspace: PathBuf,
    },
}

impl RegistryError {
    /// Returns the next step for the user.
    pub fn hint(&self) -> Option<Hint> {
        match self {
            Self::Name(error) => error.hint(),
            Self::File(error) => error.hint(),
            Self::Record(error) => error.hint(),
            Self::Supervisor { .. } => {
                Some(Hint::text("check this machine with ").command("doctor"))
            }
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

/// The result of a claim.
pub(crate) enum Claim {
    /// The name is free. The caller holds its lock, and its directory is empty.
    Free(DirectoryLock),
    /// A supervisor runs, starts or ends under this name.
    Taken(Connection),
}

/// Claims the name for `workspace`, or connects to its supervisor with `request`. Removes the state
/// that a dead supervisor left.
///
/// # Errors
/// [`RegistryError::OtherWorkspace`] if the name belongs to another directory.
pub(crate) async fn claim(
    layout: &StateLayout,
    name: &SandboxName,
    workspace: Option<&Path>,
    request: Request,
) -> Result<Claim, RegistryError> {
    // The record of a sandbox without a workspace has an empty path.
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
                    return Err(RegistryError::OtherWorkspace {
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

/// Returns the name for a workspace: the directory's own name, with a hash if another workspace has
/// that name.
pub(crate) fn name_for(
    directories: &Directories,
    workspace: &Path,
) -> Result<SandboxName, RegistryError> {
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

/// Starts the supervisor for a claimed name in a process of `program` and hands it the plan. A
/// failure removes the claimed state.
///
/// The connection exists before the supervisor does, so the caller misses no event. The supervisor
/// learns from its end that the caller is gone.
pub(crate) async fn launch(
    plan: &StartPlan,
    lock: DirectoryLock,
    program: &Path,
) -> Result<Connection, RegistryError> {
    let launched = spawn_supervisor(plan, &lock, program).await;
    if launched.is_err() {
        collect(&plan.layout, lock);
    }
    launched
}

/// Starts the supervisor for a claimed name in a thread of this process. A failure removes the
/// claimed state.
///
/// Linux binds QEMU's parent-death signal to the thread that forks. So QEMU ends with this thread,
/// as it does with a process.
pub(crate) async fn launch_thread(
    plan: &StartPlan,
    lock: DirectoryLock,
) -> Result<(Connection, JoinHandle<()>), RegistryError> {
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
            tracing::error!(%error, "could not create the supervisor's runtime");
            collect(&plan.layout, lock);
        }
    };
    let thread = thread::Builder::new()
        .name("sandbox-supervisor".into())
        .spawn(supervise)
        .map_err(|source| RegistryError::Supervisor { name, source })?;
    Ok((connection, thread))
}

/// Creates the control socket of a plan and connects to it.
async fn control_socket(plan: &StartPlan) -> Result<(UnixListener, Connection), RegistryError> {
    let layout = &plan.layout;
    if let Some(directory) = layout.short_socket_directory() {
        make_short_socket_directory(layout, directory)?;
    }
    let socket = layout.control_socket();
    let listener = UnixListener::bind(&socket).map_err(FileError::new("listen at", &socket))?;
    let connection = Connection::open(&socket, Request::Hold)
        .await
        .map_err(|source| RegistryError::Supervisor {
            name: plan.spec.name.clone(),
            source,
        })?;
    Ok((listener, connection))
}

/// Locks a directory for a guest that is not a sandbox, and empties it. [`collect`] removes it.
///
/// # Errors
/// Fails if another process holds the lock.
pub(crate) fn occupy(layout: &StateLayout) -> Result<DirectoryLock, RegistryError> {
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
) -> Result<Connection, RegistryError> {
    let layout = &plan.layout;
    let failed = |source| RegistryError::Supervisor {
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

/// Creates the short directory for the sockets of a state directory with a long path, and links to
/// them in the state directory.
fn make_short_socket_directory(layout: &StateLayout, directory: &Path) -> Result<(), FileError> {
    use std::os::unix::fs::{MetadataExt, symlink};
    files::create_private_directory(directory)?;
    let found = fs::symlink_metadata(directory).map_err(FileError::new("inspect", directory))?;
    // In a directory that everyone may write to (`/tmp`), another user could have created it.
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

/// Returns the workspace that a name belongs to.
pub(crate) fn owner(layout: &StateLayout) -> Result<Option<PathBuf>, FileError> {
    use std::os::unix::ffi::OsStringExt;
    /// The longest path on Linux (PATH_MAX) and a newline, in bytes.
    const LIMIT: u64 = 4097;
    let content = files::read_if_present(&layout.workspace_path(), LIMIT)?;
    Ok(content.and_then(|mut content| {
        // Without the newline, another process is still writing the file.
        (content.pop() == Some(b'\n')).then(|| std::ffi::OsString::from_vec(content).into())
    }))
}

/// Removes the state of a sandbox, kills its QEMU if it still runs, and releases the lock.
///
/// Never fails: logs the files that it cannot remove. The next start of the name tries again.
pub(crate) fn collect(layout: &StateLayout, lock: DirectoryLock) {
    clear(layout, read_record(layout).as_ref());
    for result in [
        files::remove_file_if_present(&layout.workspace_path()),
        files::remove_file_if_present(&layout.lock()),
    ] {
        log_failure(result);
    }
    // The directory is not empty if another process has just claimed the name.
    drop(fs::remove_dir(layout.directory()));
    drop(lock);
}

fn read_record(layout: &StateLayout) -> Option<Record> {
    Record::read(&layout.record()).unwrap_or_else(|error| {
        tracing::warn!(%error, "removing a damaged record");
        None
    })
}

/// Removes everything but the lock from a state directory whose lock the caller holds.
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
            tracing::warn!(%error, "could not read the state directory");
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
            "could not remove a part of a sandbox's state"
        );
    }
}

/// A sandbox that a process owns now: it runs, starts or ends.
#[derive(Debug)]
pub struct Found {
    /// The sandbox's name.
    pub name: SandboxName,
    /// The paths of its state.
    pub layout: StateLayout,
    /// The sandbox's record. `None` while a process creates or removes it; an error if it is
    /// damaged or of another version.
    pub record: Result<Option<Record>, RecordError>,
}

impl Found {
    pub(super) fn new(name: SandboxName, layout: StateLayout) -> Self {
        // A dead supervisor's record does not describe the running sandbox.
        let is_current = |record: &Record| record.is_current();
        let record = Record::read(&layout.record()).map(|record| record.filter(is_current));
        Self {
            name,
            layout,
            record,
        }
    }

    /// Returns the record, if it can be read.
    pub fn record(&self) -> Option<&Record> {
        self.record.as_ref().ok()?.as_ref()
    }
}

/// Returns the sandboxes that a process owns, sorted by name. Removes nothing.
pub(crate) fn list(directories: &Directories) -> Result<Vec<Found>, RegistryError> {
    let mut found = Vec::new();
    for name in names(directories)? {
        found.extend(find(directories, &name)?);
    }
    Ok(found)
}

/// Returns the names that have a state directory, sorted.
pub(super) fn names(directories: &Directories) -> Result<Vec<SandboxName>, RegistryError> {
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

/// Returns the sandbox of this name, if a process owns it. Removes nothing.
pub(crate) fn find(
    directories: &Directories,
    name: &SandboxName,
) -> Result<Option<Found>, RegistryError> {
    let layout = StateLayout::new(directories, name);
    Ok(is_owned(&layout).then(|| Found::new(name.clone(), layout)))
}

/// Returns whether a process owns the sandbox of this layout.
pub(crate) fn is_owned(layout: &StateLayout) -> bool {
    DirectoryLock::is_held(&layout.lock())
}

/// Removes the state of a dead sandbox. Returns whether there was any.
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
