//! The plan of a start: a pure value made from the specification and what is
//! known of the host. `--dry-run` prints it, tests compare it, the supervisor
//! carries it out.

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
use sandbox_spec::{Accelerator, DiskSize, TemplateKey, guest_network};
use sandbox_store::template::TemplateStore;

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
    pub fn hint(&self) -> Option<Hint> {
        Some(match self {
            Self::NotUtf8(_) => "rename the directory".into(),
            Self::DiskTooSmall { least, .. } => format!("give at least `--disk {least}`").into(),
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
    /// Keys.
    pub keys: Keys,
    /// The user's home directory, where the alias for OpenSSH goes.
    pub home: PathBuf,
    /// Where the network's access log lies and, in proxy mode, the list of allowed domains.
    pub network_directory: PathBuf,
    /// The start by restoring a template, if there is one that fits. It is
    /// tried first.
    pub warm: Option<WarmStart>,
    /// The start by booting.
    pub cold: ColdStart,
}

/// A start that boots the image's kernel.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ColdStart {
    /// The seed's files, in [`StateLayout::seed`].
    pub seed: Transport,
    /// QEMU's whole command line.
    pub argv: Vec<String>,
}

/// A start that restores a saved guest.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct WarmStart {
    /// What is restored.
    pub template: TemplateFiles,
    /// The seed, which the guest agent is given.
    pub credentials: Vec<Credential>,
    /// QEMU's whole command line.
    pub argv: Vec<String>,
}

/// The files of a template, and what a sandbox has to fit into.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TemplateFiles {
    /// Where it is kept.
    pub store: TemplateStore,
    /// Its key.
    pub key: TemplateKey,
    /// The guest's memory.
    pub ram: PathBuf,
    /// The state of its devices.
    pub state: PathBuf,
    /// Its disk layer on the base image, qcow2.
    pub disk: PathBuf,
    /// The disk's size as the guest sees it, in bytes.
    pub disk_bytes: u64,
    /// How many devices for shares it has, the workspace's included.
    pub share_devices: usize,
}

impl StartPlan {
    /// Makes the plan.
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
        // A template that this sandbox does not fit on is none for it.
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
            // Nobody asked for a log, or for a list that outlives the sandbox: both go with it.
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
    fn nothing_of_the_seed_is_on_the_command_line() {
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
    fn every_share_has_a_device_and_a_unit_of_the_same_tag() {
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
    fn a_warm_start_has_a_device_for_every_share_and_spare_ones_for_the_rest() {
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
    fn a_sandbox_that_does_not_fit_on_the_template_starts_cold() {
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
    fn the_guest_is_told_of_proxy_and_secrets_but_not_their_values() {
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
    fn a_disk_smaller_than_its_image_is_refused() {
        let small = SandboxSpec {
            disk: "1G".parse().unwrap(),
            ..spec()
        };
        let error = plan(small).unwrap_err();
        assert_eq!(
            error.hint().unwrap().to_string(),
            "give at least `--disk 2048M`"
        );
    }

    #[test]
    fn a_plan_survives_the_way_to_the_supervisor() {
        let plan = plan(spec()).unwrap();
        let text = serde_json::to_string(&plan).unwrap();
        let read: StartPlan = serde_json::from_str(&text).unwrap();
        assert_eq!(serde_json::to_string(&read).unwrap(), text);
        assert_eq!(read.cold.seed, plan.cold.seed);
    }
}
