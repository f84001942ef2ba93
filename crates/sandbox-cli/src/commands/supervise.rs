//! `sandbox supervise`: the process behind a running sandbox. It finds its
//! plan on stdin, its lock and its control socket on fixed descriptors.

use std::io::Read;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixListener;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use super::{ExitStatus, Outcome};
use crate::output::Report;
use sandbox::lifecycle::{CONTROL_DESCRIPTOR, LOCK_DESCRIPTOR};
use sandbox::{StartPlan, supervisor};
use sandbox_host::files::FileError;
use sandbox_host::lock::DirectoryLock;

/// What the parent hands over beside the plan.
pub(super) struct Inheritance {
    lock: DirectoryLock,
    listener: UnixListener,
}

impl Inheritance {
    /// To be called before anything in this process opens a file, which would
    /// get the same numbers where the parent handed over nothing.
    pub(super) fn take() -> Result<Self, Report> {
        Ok(Self {
            lock: DirectoryLock::inherited(inherited(LOCK_DESCRIPTOR)?),
            listener: UnixListener::from(inherited(CONTROL_DESCRIPTOR)?),
        })
    }
}

pub(super) async fn run(Inheritance { lock, listener }: Inheritance) -> Outcome {
    let log = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(false)
        // A full disk must not end the supervisor by a panic about its log.
        .log_internal_errors(false)
        .with_filter(what_is_logged());
    tracing_subscriber::registry().with(log).init();
    let mut plan = Vec::new();
    std::io::stdin().lock().read_to_end(&mut plan)?;
    let plan: StartPlan =
        serde_json::from_slice(&plan).map_err(|error| Report::of(&error, None))?;
    supervisor::run(plan, lock, listener).await;
    Ok(ExitStatus::SUCCESS)
}

/// Everything from notices on, but of the DNS crates nothing: the guest decides how often they
/// have something to say.
fn what_is_logged() -> Targets {
    Targets::new().with_default(LevelFilter::INFO).with_targets(
        ["hickory_net", "hickory_proto", "hickory_resolver"].map(|of| (of, LevelFilter::OFF)),
    )
}

/// Takes over a descriptor of the parent, so that no child of ours gets it.
fn inherited(number: RawFd) -> Result<OwnedFd, Report> {
    // SAFETY: `fcntl` below tells whether the descriptor is open; nothing else
    // in this process owns it, since it was open when the process started.
    let descriptor = unsafe { OwnedFd::from_raw_fd(number) };
    if let Err(error) = fcntl(&descriptor, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)) {
        std::mem::forget(descriptor);
        return Err(Report::of(
            &FileError::new("take over", format!("/proc/self/fd/{number}"))(error.into()),
            Some("`supervise` is started by the other commands: try `sandbox --kvm`".into()),
        ));
    }
    Ok(descriptor)
}
