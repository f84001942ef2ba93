//! `sandbox supervise`: the process behind a running sandbox. It finds its
//! plan on stdin, its lock and its control socket on fixed descriptors.

use std::io::Read;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixListener;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};

use super::{ExitStatus, Outcome};
use crate::host::lock::DirectoryLock;
use crate::output::Report;
use crate::sandbox::lifecycle::{CONTROL_DESCRIPTOR, LOCK_DESCRIPTOR};
use crate::sandbox::{StartPlan, supervisor};

pub(super) async fn run() -> Outcome {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(false)
        // A full disk must not end the supervisor by a panic about its log.
        .log_internal_errors(false)
        .with_max_level(tracing::Level::INFO)
        .init();
    let lock = DirectoryLock::inherited(inherited(LOCK_DESCRIPTOR)?);
    let listener = UnixListener::from(inherited(CONTROL_DESCRIPTOR)?);
    let mut plan = Vec::new();
    std::io::stdin().lock().read_to_end(&mut plan)?;
    let plan: StartPlan =
        serde_json::from_slice(&plan).map_err(|error| Report::of(&error, None))?;
    supervisor::run(plan, lock, listener).await;
    Ok(ExitStatus::SUCCESS)
}

/// Takes over a descriptor of the parent, so that no child of ours gets it.
fn inherited(number: RawFd) -> Result<OwnedFd, Report> {
    // SAFETY: `fcntl` below tells whether the descriptor is open; nothing else
    // in this process owns it, since it was open when the process started.
    let descriptor = unsafe { OwnedFd::from_raw_fd(number) };
    if let Err(error) = fcntl(&descriptor, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)) {
        std::mem::forget(descriptor);
        return Err(Report::of(
            &error,
            Some("`supervise` is started by the other commands: try `sandbox --kvm`".into()),
        ));
    }
    Ok(descriptor)
}
