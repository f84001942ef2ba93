//! The plan of a start: a pure value made from the specification and what is
//! known of the host. `--dry-run` prints it, tests compare it, the supervisor
//! carries it out.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{DiskSize, SandboxSpec, StateLayout};
use crate::guest::credential::{CredentialFile, TooLarge, Transport};
use crate::guest::seed::{self, MountUnit, SeedInput};
use crate::qemu::accelerator::Accelerator;
use crate::qemu::argv::{Machine, Memory, NinePDevice, Origin};
use crate::share::{Share, mount_unit};
use crate::ssh::keys::Keys;

/// The files of a base image, as the image store gives them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootImage {
    /// Its name.
    pub name: String,
    /// Its digest, `sha256:` and hexadecimal digits.
    pub digest: String,
    /// The qcow2 disk.
    pub disk: PathBuf,
    /// The disk's size as a guest sees it, in bytes.
    pub disk_bytes: u64,
    /// The kernel.
    pub kernel: PathBuf,
    /// The kernel modules that init loads, as a cpio archive.
    pub modules: PathBuf,
    /// The kernel command line that the image wants.
    pub command_line: String,
}

/// What a plan needs to know of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostSetup {
    /// The QEMU program.
    pub qemu: PathBuf,
    /// How the processors will run.
    pub accelerator: Accelerator,
    /// The user's home directory, where the alias for OpenSSH goes.
    pub home: PathBuf,
    /// A machine-id for the guest, 32 lower-case hexadecimal digits.
    pub machine_id: String,
    /// Public keys of the user's SSH agent, which may enter, too.
    pub agent_keys: Vec<String>,
}

/// Why no plan could be made.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// QEMU's command line and the state files are UTF-8.
    #[error("the path `{}` is not valid UTF-8", .0.display())]
    NotUtf8(PathBuf),
    /// The overlay would be smaller than what it lies on.
    #[error("a disk of {asked} is smaller than the image `{image}`, which has {least}")]
    DiskTooSmall {
        /// What was asked for.
        asked: DiskSize,
        /// The image.
        image: String,
        /// Its size, with a unit.
        least: String,
    },
    /// The seed does not fit.
    #[error(transparent)]
    Seed(#[from] TooLarge),
}

impl PlanError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NotUtf8(_) => "rename the directory".into(),
            Self::DiskTooSmall { least, .. } => format!("give at least `--disk {least}`"),
            Self::Seed(_) => {
                "make the cloud-config smaller: let it fetch or read large files from the workspace"
                    .into()
            }
        })
    }
}

/// Everything that a start does.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StartPlan {
    /// What the user wants.
    pub spec: SandboxSpec,
    /// Where its state lies.
    pub layout: StateLayout,
    /// The base image.
    pub image: BootImage,
    /// How the processors run.
    pub accelerator: Accelerator,
    /// The seed's files, in [`StateLayout::seed`].
    pub seed: Transport,
    /// Keys.
    pub keys: Keys,
    /// The user's home directory, where the alias for OpenSSH goes.
    pub home: PathBuf,
    /// QEMU's whole command line.
    pub argv: Vec<String>,
}

/// The mount tag of the workspace.
const WORKSPACE_TAG: &str = "workspace";

/// What the kernel is told under emulation: speculation is not emulated, so
/// nothing needs protection from it; calibrating timers, testing ciphers and
/// looking for serial ports only costs time.
const TCG_COMMAND_LINE: &str = "mitigations=off tsc=reliable no_timer_check \
     rcupdate.rcu_expedited=1 nowatchdog cryptomgr.notests 8250.nr_uarts=1";

impl StartPlan {
    /// Makes the plan.
    pub fn new(
        spec: SandboxSpec,
        layout: StateLayout,
        image: BootImage,
        host: HostSetup,
        keys: Keys,
    ) -> Result<Self, PlanError> {
        let paths = [layout.directory(), &spec.workspace, &image.disk, &host.qemu];
        let shared = spec.shares.iter().map(|share| share.host.as_path());
        if let Some(path) = paths
            .into_iter()
            .chain(shared)
            .find(|path| path.to_str().is_none())
        {
            return Err(PlanError::NotUtf8(path.into()));
        }
        if spec.disk.bytes() < image.disk_bytes {
            return Err(PlanError::DiskTooSmall {
                asked: spec.disk,
                least: format!("{}M", image.disk_bytes.div_ceil(1 << 20)),
                image: image.name,
            });
        }
        let mounts = mounts(&spec);
        let seed = seed(&spec, &host, &keys, &mounts)?;
        let argv = machine(&spec, &layout, &image, &host, &mounts, &seed).to_argv();
        Ok(Self {
            spec,
            layout,
            image,
            accelerator: host.accelerator,
            seed,
            keys,
            home: host.home,
            argv,
        })
    }
}

/// A share with the tag under which the guest finds it.
struct Mount {
    tag: String,
    share: Share,
}

fn mounts(spec: &SandboxSpec) -> Vec<Mount> {
    let workspace = Share {
        host: spec.workspace.clone(),
        guest: crate::guest::WORKSPACE
            .parse()
            .expect("the constant is an absolute path"),
        read_only: false,
    };
    let further = spec.shares.iter().enumerate().map(|(index, share)| Mount {
        tag: format!("share{}", index + 1),
        share: share.clone(),
    });
    std::iter::once(Mount {
        tag: WORKSPACE_TAG.into(),
        share: workspace,
    })
    .chain(further)
    .collect()
}

fn seed(
    spec: &SandboxSpec,
    host: &HostSetup,
    keys: &Keys,
    mounts: &[Mount],
) -> Result<Transport, TooLarge> {
    let units: Vec<MountUnit> = mounts
        .iter()
        .map(|Mount { tag, share }| MountUnit {
            name: mount_unit::name(&share.guest),
            content: mount_unit::content(tag, &share.guest, share.read_only),
        })
        .collect();
    let rows: Vec<[String; 4]> = mounts
        .iter()
        .map(|Mount { tag, share }| {
            let options = format!("{},nofail", mount_unit::options(share.read_only));
            [tag.clone(), share.guest.to_string(), "9p".into(), options]
        })
        .collect();
    let authorized_keys: Vec<String> = std::iter::once(&keys.authorized_key)
        .chain(&host.agent_keys)
        .map(|key| key.trim_end().to_string())
        .collect();
    Transport::of(&seed::credentials(&SeedInput {
        name: spec.name.as_str(),
        machine_id: &host.machine_id,
        host_key: (&keys.host_key_private, &keys.host_key),
        authorized_keys: &authorized_keys,
        mount_units: &units,
        mounts: &rows,
        cloud_config: spec.cloud_config.as_ref(),
    }))
}

fn machine(
    spec: &SandboxSpec,
    layout: &StateLayout,
    image: &BootImage,
    host: &HostSetup,
    mounts: &[Mount],
    seed: &Transport,
) -> Machine {
    let mut command_line = image.command_line.clone();
    if host.accelerator == Accelerator::Tcg {
        command_line.push(' ');
        command_line.push_str(TCG_COMMAND_LINE);
    }
    let seed_path = |file: &CredentialFile| layout.seed().join(&file.name);
    Machine {
        program: host.qemu.clone(),
        name: spec.name.to_string(),
        accelerator: host.accelerator,
        cpus: spec.cpus.get(),
        memory_bytes: spec.memory.bytes(),
        memory: Memory::Anonymous,
        origin: Origin::Boot {
            kernel: image.kernel.clone(),
            initrd: layout.initrd(),
            command_line,
        },
        disk: layout.overlay(),
        shares: mounts
            .iter()
            .map(|Mount { tag, share }| NinePDevice {
                tag: tag.clone(),
                directory: share.host.clone(),
                security_model: spec.share_mode.security_model(),
                read_only: share.read_only,
            })
            .collect(),
        smbios_strings: seed.smbios.iter().map(seed_path).collect(),
        firmware_files: seed
            .firmware
            .iter()
            .map(|file| {
                (
                    format!("opt/io.systemd.credentials/{}", file.name),
                    seed_path(file),
                )
            })
            .collect(),
        qmp_socket: layout.qmp_socket(),
        console_socket: layout.console_socket(),
        console_log: layout.console_log(),
        event_socket: layout.event_socket(),
        agent_port_socket: layout.agent_port_socket(),
        pid_file: layout.qemu_pid(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::host::directories::Directories;
    use crate::sandbox::Lifetime;

    fn spec() -> SandboxSpec {
        SandboxSpec {
            name: "sandbox-box".parse().unwrap(),
            workspace: "/home/a/box".into(),
            cpus: "2".parse().unwrap(),
            memory: "2G".parse().unwrap(),
            disk: "20G".parse().unwrap(),
            shares: vec!["/data:/mnt/my-data:ro".parse().unwrap()],
            share_mode: crate::share::ShareMode::Mapped,
            cloud_config: None,
            ready_timeout: Duration::from_secs(60),
            lifetime: Lifetime::Persistent,
        }
    }

    fn plan(spec: SandboxSpec) -> Result<StartPlan, PlanError> {
        let directories = Directories {
            state: "/home/a/.cache/sandbox".into(),
            config: "/home/a/.config/sandbox".into(),
            home: "/home/a".into(),
            runtime: "/run/user/1".into(),
        };
        let layout = StateLayout::new(&directories, &spec.name);
        let image = BootImage {
            name: "debian-13".into(),
            digest: "sha256:00".into(),
            disk: "/blobs/disk".into(),
            disk_bytes: 2 << 30,
            kernel: "/blobs/kernel".into(),
            modules: "/blobs/modules".into(),
            command_line: "root=/dev/vda".into(),
        };
        let host = HostSetup {
            qemu: "/usr/bin/qemu-system-x86_64".into(),
            accelerator: Accelerator::Tcg,
            home: "/home/a".into(),
            machine_id: "0123456789abcdef0123456789abcdef".into(),
            agent_keys: vec!["ssh-ed25519 AGENT".into()],
        };
        let keys = Keys {
            identity_private: "IDENTITY SECRET".into(),
            authorized_key: "ssh-ed25519 CLIENT".into(),
            host_key_private: "HOST SECRET".into(),
            host_key: "ssh-ed25519 HOST".into(),
        };
        StartPlan::new(spec, layout, image, host, keys)
    }

    fn seed_file<'a>(plan: &'a StartPlan, name: &str) -> &'a CredentialFile {
        plan.seed
            .smbios
            .iter()
            .find(|file| file.name == name)
            .unwrap()
    }

    #[test]
    fn nothing_of_the_seed_is_on_the_command_line() {
        let plan = plan(spec()).unwrap();
        let command_line = plan.argv.join(" ");
        for secret in ["SECRET", "CLIENT", "AGENT", "0123456789abcdef"] {
            assert!(!command_line.contains(secret), "{command_line}");
        }
        for file in &plan.seed.smbios {
            let path = plan.layout.seed().join(&file.name);
            let option = format!("type=11,path={}", path.display());
            assert!(plan.argv.contains(&option), "{option}");
        }
    }

    #[test]
    fn every_share_has_a_device_and_a_unit_of_the_same_tag() {
        let plan = plan(spec()).unwrap();
        let unit = seed_file(&plan, "systemd.extra-unit.mnt-my\\x2ddata.mount");
        let text = String::from_utf8_lossy(&unit.content);
        assert!(text.starts_with("io.systemd.credential.binary:"));
        assert!(
            plan.argv
                .iter()
                .any(|word| word == "virtio-9p-pci,fsdev=share1,mount_tag=share1")
        );
        assert!(
            plan.argv
                .iter()
                .any(|word| word.starts_with("local,id=share1,path=/data,")
                    && word.ends_with("readonly=on"))
        );
    }

    #[test]
    fn the_users_agent_may_enter_too() {
        use base64::Engine;
        let plan = plan(spec()).unwrap();
        let keys = seed_file(&plan, "sandbox.authorized-keys");
        let (_, encoded) = std::str::from_utf8(&keys.content)
            .unwrap()
            .split_once('=')
            .unwrap();
        let decoded = base64::engine::general_purpose::STANDARD
            .decode(encoded)
            .unwrap();
        assert_eq!(decoded, b"ssh-ed25519 CLIENT\nssh-ed25519 AGENT\n");
    }

    #[test]
    fn a_disk_smaller_than_its_image_is_refused() {
        let small = SandboxSpec {
            disk: "1G".parse().unwrap(),
            ..spec()
        };
        let error = plan(small).unwrap_err();
        assert_eq!(error.hint().unwrap(), "give at least `--disk 2048M`");
    }

    #[test]
    fn a_plan_survives_the_way_to_the_supervisor() {
        let plan = plan(spec()).unwrap();
        let text = serde_json::to_string(&plan).unwrap();
        let read: StartPlan = serde_json::from_str(&text).unwrap();
        assert_eq!(serde_json::to_string(&read).unwrap(), text);
        assert_eq!(read.seed, plan.seed);
    }
}
