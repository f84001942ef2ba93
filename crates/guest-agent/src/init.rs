//! `/init` of the initrd: from the start of the kernel to the start of systemd.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{fs, io, thread};

use rustix::io::Errno;
use rustix::mount::MountFlags;
use rustix::system::RebootCommand;

use crate::command_line::CommandLine;
use crate::credentials::Credentials;
use crate::events::{self, Event};
use crate::files::{self, ROOT, WriteError};
use crate::modules::{ModuleError, Modules};
use crate::network::{self, Network, NetworkError};
use crate::programs::AGENT_PATH;
use crate::root::{self, RootError};
use crate::switch_root::{self, SwitchRootError};
use crate::{generators, report, seed, shares};

/// The mount point of the root file system before the switch to it.
const NEW_ROOT: &str = "/root";

/// The last module that mounting the root file system needs. The image's recipe
/// lists all of these first.
const ROOT_MODULE: &str = "ext4";

/// A step of init that failed.
#[derive(Debug, thiserror::Error)]
enum InitError {
    #[error("could not mount `{path}`")]
    Mount { path: &'static str, source: Errno },
    #[error("could not read `{path}`")]
    Read {
        path: &'static str,
        source: io::Error,
    },
    #[error("could not read the host's credentials")]
    Credentials { source: io::Error },
    #[error("could not copy the agent to `{AGENT_PATH}`")]
    CopyAgent { source: io::Error },
    #[error("could not set the host name")]
    HostName { source: Errno },
    #[error("could not start `{AGENT_PATH}` to grow the root file system")]
    Grow { source: io::Error },
    #[error("could not mask the systemd generators")]
    Generators { source: io::Error },
    #[error(transparent)]
    Modules(#[from] ModuleError),
    #[error(transparent)]
    Root(#[from] RootError),
    #[error(transparent)]
    Seed(#[from] WriteError),
    #[error(transparent)]
    Network(#[from] NetworkError),
    #[error(transparent)]
    SwitchRoot(#[from] SwitchRootError),
}

/// The file systems that systemd would otherwise mount, with its options
/// (systemd, `src/shared/mount-setup.c`). They move to the new root.
const MOUNTS: [Mount; 4] = [
    Mount::new("/dev", "devtmpfs", c"mode=0755,size=4m,nr_inodes=1m").flags(MountFlags::NOSUID),
    Mount::new("/proc", "proc", c"").flags(RESTRICTED),
    Mount::new("/sys", "sysfs", c"").flags(RESTRICTED),
    Mount::new("/run", "tmpfs", c"mode=0755,size=20%,nr_inodes=800k").flags(TEMPORARY),
];

const TEMPORARY: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV);
const RESTRICTED: MountFlags = TEMPORARY.union(MountFlags::NOEXEC);

struct Mount {
    path: &'static str,
    file_system: &'static str,
    options: &'static std::ffi::CStr,
    flags: MountFlags,
}

impl Mount {
    const fn new(
        path: &'static str,
        file_system: &'static str,
        options: &'static std::ffi::CStr,
    ) -> Self {
        Self {
            path,
            file_system,
            options,
            flags: MountFlags::empty(),
        }
    }

    const fn flags(mut self, flags: MountFlags) -> Self {
        self.flags = flags;
        self
    }
}

/// Runs init. If a step fails, it reports the reason on the console and to the
/// host, and powers off. Otherwise it never returns.
pub(crate) fn run() -> ExitCode {
    let Err(error) = start();
    let reason = report::chain(&error);
    report::log(&reason);
    events::send(&Event::Failed { reason: &reason });
    let _ = rustix::system::reboot(RebootCommand::PowerOff);
    // Without PID 1 the kernel panics, and `panic=-1` reboots at once, which
    // ends QEMU.
    ExitCode::FAILURE
}

fn start() -> Result<std::convert::Infallible, InitError> {
    mount_api_file_systems()?;
    events::send(&Event::Init);
    let command_line = fs::read_to_string("/proc/cmdline").map_err(|source| InitError::Read {
        path: "/proc/cmdline",
        source,
    })?;
    let command_line = CommandLine::parse(&command_line);
    let modules = Modules::list()?;
    let can_grow = thread::scope(|scope| {
        let devices = scope.spawn(|| prepare_devices(&modules));
        modules.load_through(ROOT_MODULE)?;
        let can_grow = root::mount(&command_line.root, Path::new(NEW_ROOT))?;
        generators::mask(Path::new(NEW_ROOT)).map_err(|source| InitError::Generators { source })?;
        copy_agent()?;
        modules.load_all()?;
        let (credentials, network) = devices.join().expect("a panic aborts the program")?;
        seed::set_hostname(&credentials).map_err(|source| InitError::HostName { source })?;
        seed::apply(
            &credentials,
            network.as_ref(),
            Path::new(NEW_ROOT),
            Path::new("/run"),
        )?;
        shares::write_units(&credentials, Path::new("/run"), ROOT)?;
        Ok::<_, InitError>(can_grow)
    })?;
    switch_root::enter(Path::new(NEW_ROOT), &MOUNTS.map(|mount| mount.path))?;
    if can_grow {
        root::spawn_grow().map_err(|source| InitError::Grow { source })?;
    }
    events::send(&Event::SwitchRoot);
    Err(switch_root::execute_init().into())
}

/// Does the work that needs no root file system, while another thread mounts
/// it: loads the remaining modules, reads the seed, sets up the network.
fn prepare_devices(modules: &Modules) -> Result<(Credentials, Option<Network>), InitError> {
    modules.load_all()?;
    let credentials =
        Credentials::from_firmware().map_err(|source| InitError::Credentials { source })?;
    let network = credentials
        .text("sandbox.network")
        .map(|text| text.parse::<Network>())
        .transpose()?;
    network::bring_up(network.as_ref())?;
    Ok((credentials, network))
}

fn mount_api_file_systems() -> Result<(), InitError> {
    for Mount {
        path,
        file_system,
        options,
        flags,
    } in MOUNTS
    {
        // The directory may exist. If it cannot be created, the mount fails.
        let _ = fs::create_dir(path);
        rustix::mount::mount(file_system, path, file_system, flags, options)
            .map_err(|source| InitError::Mount { path, source })?;
    }
    let _ = fs::create_dir(NEW_ROOT);
    Ok(())
}

/// Copies the agent to `/run`, which outlives the initrd. A unit of the image
/// starts it from there.
fn copy_agent() -> Result<(), InitError> {
    let path = PathBuf::from(AGENT_PATH);
    if let Some(parent) = path.parent() {
        files::make_directory(parent, 0o755, ROOT)?;
    }
    fs::copy("/init", &path).map_err(|source| InitError::CopyAgent { source })?;
    Ok(())
}
