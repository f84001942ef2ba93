//! The claim of a name, and the launch of its supervisor.

use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use sandbox_host::lock::DirectoryLock;
use sandbox_protocol::control::{Connection, Request};
use sandbox_spec::SandboxName;

use crate::error::Error;
use crate::plan::StartPlan;
use crate::registry::{self, Claim, RegistryError};
use crate::state::StateLayout;

/// Where to run the supervisor.
pub(crate) enum Supervision {
    /// In a thread of this process.
    Thread,
    /// In a process of this program.
    Process(PathBuf),
}

/// A running supervisor.
pub(crate) struct Launched {
    pub(crate) connection: Connection,
    pub(crate) thread: Option<JoinHandle<()>>,
}

/// The result of a claim.
pub(crate) enum Claimed {
    Free(DirectoryLock),
    Taken(Connection),
    /// The name comes from this directory but belongs to another directory of the same name.
    Elsewhere(PathBuf),
}

/// Claims the name. If it is `replaceable`, another workspace's claim is not an error, since that
/// workspace may have claimed it while an image was built.
pub(crate) async fn claim(
    layout: &StateLayout,
    name: &SandboxName,
    workspace: Option<&Path>,
    replaceable: bool,
) -> Result<Claimed, Error> {
    match (
        registry::claim(layout, name, workspace, Request::Subscribe).await,
        workspace,
    ) {
        (Err(RegistryError::OtherWorkspace { .. }), Some(workspace)) if replaceable => {
            Ok(Claimed::Elsewhere(workspace.into()))
        }
        (Ok(Claim::Free(lock)), _) => Ok(Claimed::Free(lock)),
        (Ok(Claim::Taken(connection)), _) => Ok(Claimed::Taken(connection)),
        (Err(error), _) => Err(error.into()),
    }
}

/// Starts a supervisor with the plan. A failure removes the claimed state.
pub(crate) async fn launch(
    plan: &StartPlan,
    lock: DirectoryLock,
    supervision: &Supervision,
) -> Result<Launched, Error> {
    Ok(match supervision {
        Supervision::Process(program) => Launched {
            connection: registry::launch(plan, lock, program).await?,
            thread: None,
        },
        Supervision::Thread => {
            let (connection, thread) = registry::launch_thread(plan, lock).await?;
            Launched {
                connection,
                thread: Some(thread),
            }
        }
    })
}
