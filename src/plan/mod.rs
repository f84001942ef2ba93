//! The plan of a start: a pure value, created from the specification and the host's properties.
//! `--dry-run` prints it, tests compare it, and the supervisor executes it.

#[cfg(test)]
mod fixtures;
mod machine;
mod template;

use sandbox_host::hint::Hint;
use std::path::PathBuf;

pub(crate) use template::{MachineShape, TemplatePlan, TemplateTarget};

use serde::{Deserialize, Serialize};

use self::machine::Mount;
use super::{SandboxSpec, StateLayout};
use crate::guest::credential::{Credential, TooLarge, Transport};
use crate::guest::egress::Egress;
use crate::guest::mount_unit;
use crate::guest::seed::{self, MountUnit, SeedInput};
use crate::ssh::keys::Keys;
use sandbox_spec::{Accelerator, Digest, DiskSize, ImageReference, TemplateKey, guest_network};
use sandbox_store::template::TemplateStore;

/// The files of a base image, as the image store returns them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct BootImage {
    /// The image's name.
    pub name: ImageReference,
    /// The image's digest; `None` in the plan of a dry run whose image is not stored yet.
    pub digest: Option<Digest>,
    /// The qcow2 disk.
    pub disk: PathBuf,
    /// The disk's size as a guest sees it, in bytes.
    pub disk_bytes: u64,
    /// The kernel.
    pub kernel: PathBuf,
    /// The kernel modules that init loads, as a cpio archive.
    pub modules: PathBuf,
    /// The kernel command line of the image.
    pub command_line: String,
}

/// The properties of the host that a plan depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostSetup {
    /// The QEMU program.
    pub qemu: PathBuf,
    /// The accelerator of the guest's processors.
    pub accelerator: Accelerator,
    /// The user's home directory, where the alias for OpenSSH goes.
    pub home: PathBuf,
    /// A machine-id for the guest, 32 lower-case hexadecimal digits.
    pub machine_id: String,
    /// The public keys of the user's SSH agent, which also give access.
    pub agent_keys: Vec<String>,
}

/// A specification for which no plan is possible.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// A path is not UTF-8, as QEMU's command line and the state files require.
    #[error("the path `{}` is not valid UTF-8", .0.display())]
    NotUtf8(PathBuf),
    /// The overlay would be smaller than the image's disk.
    #[error("invalid disk size `{asked}`: the image `{image}` has {least}")]
    DiskTooSmall {
        /// The requested size.
        asked: DiskSize,
        /// The image.
        image: ImageReference,
        /// The image's size, with a unit.
        least: String,
    },
    /// The seed does not fit.
    #[error(transparent)]
    Seed(#[from] TooLarge),
}

impl PlanError {
    /// Returns the next step for the user.
    pub fn hint(&self) -> Option<Hint> {
        Some(match self {
            Self::NotUtf8(_) => "rename the directory".into(),
            Self::DiskTooSmall { least, .. } => Hint::text("give at least ").setting("disk", least),
            Self::Seed(_) => {
                "make the cloud-config smaller: let it fetch or read large files from the workspace"
                    .into()
            }
        })
    }
}

/// The plan of a start.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[non_exhaustive]
pub struct StartPlan {
    /// The specification of the sandbox.
    pub spec: SandboxSpec,
    /// The paths of the sandbox's state.
    pub layout: StateLayout,
    /// The base image.
    pub image: BootImage,
    /// The accelerator of the guest's processors.
    pub accelerator: Accelerator,
    /// The SSH keys of the sandbox.
    pub keys: Keys,
    /// The user's home directory, where the alias for OpenSSH goes.
    pub home: PathBuf,
    /// The directory of the access log and, in proxy mode, of the allowlist.
    pub network_directory: PathBuf,
    /// The start from a template, if one fits. The supervisor tries it first.
    pub warm: Option<WarmStart>,
    /// The start by booting the image.
    pub cold: ColdStart,
}

/// A start that boots the image's kernel.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ColdStart {
    /// The files of the seed, in [`StateLayout::seed`].
    pub seed: Transport,
    /// QEMU's whole command line.
    pub argv: Vec<String>,
}

/// A start that restores a saved guest.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[non_exhaustive]
pub struct WarmStart {
    /// The template to restore.
    pub template: TemplateFiles,
    /// The seed, which the guest agent receives.
    pub credentials: Vec<Credential>,
    /// QEMU's whole command line.
    pub argv: Vec<String>,
}

/// The files of a template, and its limits for a sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TemplateFiles {
    /// The store that contains the template.
    pub store: TemplateStore,
    /// The template's key.
    pub key: TemplateKey,
    /// The guest's memory.
    pub ram: PathBuf,
    /// The state of the guest's devices.
    pub state: PathBuf,
    /// The guest's disk layer on the base image, in qcow2.
    pub disk: PathBuf,
    /// The pages of memory that a start touches, if they were recorded.
    pub working_set: PathBuf,
    /// The disk's size as the guest sees it, in bytes.
    pub disk_bytes: u64,
    /// The number of share devices, including the workspace's.
    pub share_devices: usize,
}

impl StartPlan {
    /// Creates the plan.
    ///
    /// # Errors
    /// Fails if a path is not UTF-8, the disk is too small, or the seed is too large.
    pub fn new(
        spec: SandboxSpec,
        layout: StateLayout,
        image: BootImage,
        host: HostSetup,
        keys: Keys,
        template: Option<TemplateFiles>,
    ) -> Result<Self, PlanError> {
        let paths = [layout.directory(), &image.disk, &host.qemu];
        let shared = spec.shares.iter().map(|share| share.host.as_path());
        let shared = shared.chain(spec.workspace.as_deref());
        // Ignores a template that is too small for this sandbox.
        let template = template.filter(|template| {
            template.disk_bytes <= spec.disk.bytes() && template.share_devices > spec.shares.len()
        });
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
        let mounts = machine::mounts(&spec);
        let credentials = credentials(&spec, &host, &keys, &mounts);
        let seed = Transport::of(&credentials)?;
        let parts = machine::Parts {
            name: spec.name.to_string(),
            program: &host.qemu,
            accelerator: host.accelerator,
            nested_virtualization: spec.nested_virtualization,
            cpus: spec.cpus,
            memory: spec.memory,
            layout: &layout,
        };
        let devices = mounts.iter().map(|mount| mount.device(spec.share_mode));
        let mut machine = parts.fresh(devices.collect());
        parts.boot(&mut machine, &image, &seed);
        let cold = ColdStart {
            argv: machine.to_argv(),
            seed,
        };
        let warm = template.map(|template| WarmStart {
            argv: parts
                .restored(&template, &mounts, spec.share_mode)
                .to_argv(),
            credentials,
            template,
        });
        let network_directory = match spec.network.proxy && spec.network.allowlist.is_none() {
            true => spec.network.proxy_directory.clone(),
            // The user did not ask for data that outlives the sandbox.
            false => layout.directory().to_owned(),
        };
        Ok(Self {
            network_directory,
            accelerator: host.accelerator,
            home: host.home,
            spec,
            layout,
            image,
            keys,
            cold,
            warm,
        })
    }
}

fn credentials(
    spec: &SandboxSpec,
    host: &HostSetup,
    keys: &Keys,
    mounts: &[Mount],
) -> Vec<Credential> {
    let units: Vec<MountUnit> = mounts
        .iter()
        .map(|Mount { tag, share, .. }| MountUnit {
            name: mount_unit::name(&share.guest),
            content: mount_unit::content(tag, &share.guest, share.read_only),
        })
        .collect();
    let rows: Vec<[String; 4]> = mounts
        .iter()
        .map(|Mount { tag, share, .. }| {
            let options = format!("{},nofail", mount_unit::options(share.read_only));
            [tag.clone(), share.guest.to_string(), "9p".into(), options]
        })
        .collect();
    let authorized_keys: Vec<String> = std::iter::once(&keys.authorized_key)
        .chain(&host.agent_keys)
        .map(|key| key.trim_end().to_string())
        .collect();
    let network = &spec.network;
    let proxy = network.proxy.then(|| {
        format!(
            "http://{}:{}",
            guest_network::PROXY,
            guest_network::PROXY_PORT
        )
    });
    let placeholders: Vec<(String, String)> = network
        .secrets
        .iter()
        .map(|secret| (secret.name.clone(), secret.placeholder.clone()))
        .collect();
    let authority = network.authority.as_ref();
    seed::credentials(&SeedInput {
        name: spec.name.as_str(),
        machine_id: &host.machine_id,
        host_key: (&keys.host_key_private, &keys.host_key),
        authorized_keys: &authorized_keys,
        network: &guest_network::for_the_guest(),
        mount_units: &units,
        mounts: &rows,
        cloud_config: spec.cloud_config.as_ref(),
        egress: Egress {
            proxy: proxy.as_deref(),
            variables: &placeholders,
            certificate: authority.map(|parts| parts.certificate.as_str()),
        },
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::network::NetworkSpec;
    use crate::spec::Lifetime;
    use sandbox_gateway::interception::AuthorityParts;
    use sandbox_spec::secret::SecretRequest;

    fn spec() -> SandboxSpec {
        SandboxSpec {
            name: "sandbox-box".parse().unwrap(),
            workspace: Some("/home/a/box".into()),
            image: "debian-13".parse().unwrap(),
            cpus: "2".parse().unwrap(),
            memory: "2G".parse().unwrap(),
            disk: "20G".parse().unwrap(),
            shares: vec!["/data:/mnt/my-data:ro".parse().unwrap()],
            share_mode: sandbox_spec::ShareMode::Mapped,
            nested_virtualization: false,
            cloud_config: None,
            ready_timeout: Duration::from_secs(60),
            templates: sandbox_spec::TemplatePolicy::Auto,
            lifetime: Lifetime::Persistent,
            network: NetworkSpec::default(),
        }
    }

    fn plan(spec: SandboxSpec) -> Result<StartPlan, PlanError> {
        let directories = fixtures::directories();
        let layout = StateLayout::new(&directories, &spec.name);
        let keys = Keys {
            identity_private: "IDENTITY SECRET".into(),
            authorized_key: "ssh-ed25519 CLIENT".into(),
            host_key_private: "HOST SECRET".into(),
            host_key: "ssh-ed25519 HOST".into(),
        };
        let template = TemplateFiles {
            store: TemplateStore::new(&directories),
            key: format!("{:064x}", 1).parse().unwrap(),
            ram: "/templates/t/ram".into(),
            state: "/templates/t/state".into(),
            disk: "/templates/t/disk.qcow2".into(),
            working_set: "/templates/t/working-set.json".into(),
            disk_bytes: 10 << 30,
            share_devices: 3,
        };
        let (image, host) = (fixtures::image(), fixtures::host());
        StartPlan::new(spec, layout, image, host, keys, Some(template))
    }

    fn seed_file<'a>(
        plan: &'a StartPlan,
        name: &str,
    ) -> &'a crate::guest::credential::CredentialFile {
        plan.cold
            .seed
            .smbios
            .iter()
            .find(|file| file.name == name)
            .unwrap()
    }

    #[test]
    fn plan_keeps_the_seed_off_the_command_line() {
        let plan = plan(spec()).unwrap();
        let command_line = plan.cold.argv.join(" ");
        for secret in ["SECRET", "CLIENT", "AGENT", "0123456789abcdef"] {
            assert!(!command_line.contains(secret), "{command_line}");
        }
        for file in &plan.cold.seed.smbios {
            let path = plan.layout.seed().join(&file.name);
            let option = format!("type=11,path={}", path.display());
            assert!(plan.cold.argv.contains(&option), "{option}");
        }
    }

    #[test]
    fn plan_gives_each_share_a_device_and_a_unit_with_its_tag() {
        let plan = plan(spec()).unwrap();
        let unit = seed_file(&plan, "systemd.extra-unit.mnt-my\\x2ddata.mount");
        let text = String::from_utf8_lossy(&unit.content);
        assert!(text.starts_with("io.systemd.credential.binary:"));
        assert!(
            plan.cold
                .argv
                .iter()
                .any(|word| word == "virtio-9p-pci,fsdev=share1,mount_tag=share1")
        );
        assert!(
            plan.cold
                .argv
                .iter()
                .any(|word| word.starts_with("local,id=share1,path=/data,")
                    && word.ends_with("readonly=on"))
        );
    }

    #[test]
    fn warm_start_fills_unused_share_devices_with_spares() {
        let plan = plan(spec()).unwrap();
        let warm = plan.warm.unwrap();
        let tags: Vec<&str> = warm
            .argv
            .iter()
            .filter_map(|word| word.strip_prefix("virtio-9p-pci,fsdev="))
            .collect();
        assert_eq!(
            tags,
            [
                "workspace,mount_tag=workspace",
                "share1,mount_tag=share1",
                "share2,mount_tag=share2"
            ]
        );
        assert!(!warm.argv.iter().any(|word| word.starts_with("type=11")));
        let seed: Vec<&str> = warm.credentials.iter().map(|one| &*one.name).collect();
        assert!(seed.contains(&"sandbox.ssh-host-key"), "{seed:?}");
    }

    #[test]
    fn plan_ignores_a_template_that_is_too_small() {
        let smaller = SandboxSpec {
            disk: "5G".parse().unwrap(),
            ..spec()
        };
        assert!(plan(smaller).unwrap().warm.is_none());
        let share = || "/data:/mnt/x".parse().unwrap();
        let more = SandboxSpec {
            shares: vec![share(), share(), share()],
            ..spec()
        };
        assert!(plan(more).unwrap().warm.is_none());
    }

    #[test]
    fn plan_authorizes_keys_of_the_users_ssh_agent() {
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
    fn seed_contains_proxy_and_placeholders_but_no_secret_values() {
        let request = SecretRequest::of_variable("TOKEN@api.example.com").unwrap();
        let secret = request.resolve(|_| Some("s3cr3t".into())).unwrap();
        let authority = AuthorityParts::generate(std::slice::from_ref(&secret)).unwrap();
        let (placeholder, certificate) =
            (secret.placeholder.clone(), authority.certificate.clone());
        let network = NetworkSpec {
            proxy: true,
            secrets: vec![secret],
            authority: Some(authority),
            ..NetworkSpec::default()
        };
        let plan = plan(SandboxSpec { network, ..spec() }).unwrap();
        let credentials = plan.warm.unwrap().credentials;
        let value = |name: &str| {
            let found = credentials.iter().find(|one| one.name == name);
            String::from_utf8_lossy(&found.unwrap().value).into_owned()
        };
        let environment = value("sandbox.environment");
        for line in [
            "http_proxy=http://10.0.2.100:8888\n".to_owned(),
            format!("TOKEN={placeholder}\n"),
        ] {
            assert!(environment.contains(&line), "{environment}");
        }
        assert_eq!(value("sandbox.certificate"), certificate);
        for one in &credentials {
            let text = String::from_utf8_lossy(&one.value);
            assert!(!text.contains("s3cr3t"), "{}", one.name);
            assert!(!text.contains("PRIVATE"), "{}", one.name);
        }
    }

    #[test]
    fn plan_rejects_a_disk_smaller_than_the_image() {
        let small = SandboxSpec {
            disk: "1G".parse().unwrap(),
            ..spec()
        };
        let error = plan(small).unwrap_err();
        assert_eq!(
            error.hint().unwrap().to_string(),
            "give at least `disk = 2048M`"
        );
    }

    #[test]
    fn plan_round_trips_through_json() {
        let plan = plan(spec()).unwrap();
        let text = serde_json::to_string(&plan).unwrap();
        let read: StartPlan = serde_json::from_str(&text).unwrap();
        assert_eq!(serde_json::to_string(&read).unwrap(), text);
        assert_eq!(read.cold.seed, plan.cold.seed);
    }
}
