//! The builder of a sandbox.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use sandbox_spec::domain::DomainPattern;
use sandbox_spec::policy::Transport;
use sandbox_spec::publish::PublishedPort;
use sandbox_spec::secret::{SecretRequest, SecretSpec};
use sandbox_spec::{
    AcceleratorChoice, CpuCount, DiskSize, MemorySize, SandboxName, Share, ShareMode,
    TemplatePolicy,
};

use super::{Listener, NetworkPolicy};
use crate::error::Error;
use crate::event::Event;
use crate::host::Host;
use crate::options::StartOptions;
use crate::spec::Lifetime;

/// Where a sandbox's supervisor runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum SupervisorKind {
    /// In a thread of this process. QEMU ends with the process, even if the process is killed.
    #[default]
    Thread,
    /// In a separate process of the installed `sandbox` program.
    Process,
}

/// The settings of a sandbox and of its start. [`Sandbox::builder`](crate::Sandbox::builder)
/// creates it.
///
/// Setters accept plain values. [`start`](Self::start) reports the first invalid one.
#[must_use = "a sandbox starts with `start`"]
pub struct SandboxBuilder {
    pub(super) host: Host,
    pub(super) options: StartOptions,
    pub(super) defaults: StartOptions,
    pub(super) name: Option<SandboxName>,
    pub(super) workspace: Option<PathBuf>,
    pub(super) fresh: bool,
    pub(super) lifetime: Lifetime,
    pub(super) supervisor: SupervisorKind,
    pub(super) listener: Listener,
    pub(super) authorized_keys: Vec<String>,
    pub(super) allowlist: Option<Vec<DomainPattern>>,
    pub(super) allowlist_of: Option<SandboxName>,
    pub(super) secrets: Vec<SecretSpec>,
    pub(super) variables: fn(&str) -> Option<OsString>,
    pub(super) invalid: Option<Error>,
}

impl SandboxBuilder {
    pub(crate) fn new(host: &Host) -> Self {
        Self {
            host: host.clone(),
            options: StartOptions::default(),
            defaults: StartOptions::default(),
            name: None,
            workspace: None,
            fresh: false,
            lifetime: Lifetime::Attached,
            supervisor: SupervisorKind::Thread,
            listener: Box::new(|_| {}),
            authorized_keys: Vec::new(),
            allowlist: None,
            allowlist_of: None,
            secrets: Vec::new(),
            variables: |_| None,
            invalid: None,
        }
    }

    /// Sets a valid value, or keeps the error of the first invalid one.
    fn keep<T, E: Into<Error>>(
        mut self,
        value: Result<T, E>,
        set: impl FnOnce(&mut Self, T),
    ) -> Self {
        match value {
            Ok(value) => set(&mut self, value),
            Err(error) => self.invalid = self.invalid.or_else(|| Some(error.into())),
        }
        self
    }

    /// Replaces all options that were set so far.
    pub fn options(mut self, options: StartOptions) -> Self {
        self.options = options;
        self
    }

    /// Sets the defaults of unset options, from a configuration file for example.
    pub fn defaults(mut self, defaults: StartOptions) -> Self {
        self.defaults = defaults;
        self
    }

    /// Sets the sandbox's name. The default is the name of the workspace ([`Host::name_for`]), or a
    /// random one without a workspace.
    pub fn name(self, name: &str) -> Self {
        self.keep(name.parse(), |builder, name| builder.name = Some(name))
    }

    /// Shares a host directory at `/home/dev/workspace`. The default is no workspace.
    pub fn workspace(mut self, directory: impl Into<PathBuf>) -> Self {
        self.workspace = Some(directory.into());
        self
    }

    /// Sets the base image. The default is `debian-13`.
    pub fn image(self, image: &str) -> Self {
        self.keep(image.parse(), |builder, image| {
            builder.options.image = Some(image)
        })
    }

    /// Sets the number of processors. The default is 2.
    pub fn cpus(self, cpus: u32) -> Self {
        let cpus = cpus.to_string().parse::<CpuCount>();
        self.keep(cpus, |builder, cpus| builder.options.cpus = Some(cpus))
    }

    /// Sets the memory size, in MiB. The default is 2048.
    pub fn memory_mib(self, memory: u64) -> Self {
        let memory = format!("{memory}M").parse::<MemorySize>();
        self.keep(memory, |builder, memory| {
            builder.options.memory = Some(memory)
        })
    }

    /// Sets whether the guest can use KVM itself, where the host allows it. The default is `false`.
    pub fn nested_virtualization(mut self, nested: bool) -> Self {
        self.options.nested_virtualization = Some(nested);
        self
    }

    /// Sets the size of the root disk as the guest sees it, in GiB. The default is 20.
    pub fn disk_gib(self, disk: u64) -> Self {
        let disk = format!("{disk}G").parse::<DiskSize>();
        self.keep(disk, |builder, disk| builder.options.disk = Some(disk))
    }

    /// Sets the accelerator of the guest's processors.
    pub fn accelerator(mut self, choice: AcceleratorChoice) -> Self {
        self.options.accelerator = Some(choice);
        self
    }

    /// Adds a share.
    pub fn share(mut self, share: Share) -> Self {
        self.options.shares.push(share);
        self
    }

    /// Sets how shares store owners and modes.
    pub fn share_mode(mut self, mode: ShareMode) -> Self {
        self.options.share_mode = Some(mode);
        self
    }

    /// Sets the cloud-config file that the start applies.
    pub fn cloud_init(mut self, file: impl Into<PathBuf>) -> Self {
        self.options.cloud_init = Some(file.into());
        self
    }

    /// Sets how long the guest may take to become ready. The default is 2 minutes, or 10 minutes if
    /// the processors are emulated.
    pub fn ready_timeout(mut self, timeout: Duration) -> Self {
        self.options.ready_timeout = Some(timeout);
        self
    }

    /// Sets how the start uses templates.
    pub fn templates(mut self, policy: TemplatePolicy) -> Self {
        self.options.templates = Some(policy);
        self
    }

    /// Sets the destinations that the guest may reach.
    pub fn network(mut self, policy: NetworkPolicy) -> Self {
        self.allowlist = policy.apply(&mut self.options);
        self
    }

    /// Forwards a TCP port of the host to the guest. Port 0 of the host selects a free port.
    pub fn publish(mut self, host: impl Into<SocketAddr>, guest: u16) -> Self {
        self.options.publish.push(PublishedPort {
            host: host.into(),
            guest,
            transport: Transport::Tcp,
        });
        self
    }

    /// Adds a secret. The guest gets a placeholder in the variable `name`, which the gateway
    /// replaces with `value` in requests to `hosts`.
    pub fn secret(self, name: &str, value: impl Into<OsString>, hosts: &[&str]) -> Self {
        let value = value.into();
        let secret = SecretRequest::of_variable(&format!("{name}@{}", hosts.join(",")))
            .and_then(|request| request.resolve(|_| Some(value.clone())));
        self.keep(secret, |builder, secret| builder.secrets.push(secret))
    }

    /// Sets the source of variables for the secrets in [`options`](Self::options). The default has
    /// no variables.
    pub fn variables(mut self, variables: fn(&str) -> Option<OsString>) -> Self {
        self.variables = variables;
        self
    }

    /// Authorizes an SSH key, by a line of `authorized_keys` (sshd(8)).
    pub fn authorized_key(mut self, line: impl Into<String>) -> Self {
        self.authorized_keys.push(line.into());
        self
    }

    /// Uses the allowlist of another sandbox in proxy mode.
    pub fn allowlist_of(mut self, name: SandboxName) -> Self {
        self.allowlist_of = Some(name);
        self
    }

    /// Makes the start fail if the sandbox already runs, instead of joining it.
    pub fn fresh(mut self) -> Self {
        self.fresh = true;
        self
    }

    /// Sets whether the sandbox ends with its handle. The default is [`Lifetime::Attached`].
    pub fn lifetime(mut self, lifetime: Lifetime) -> Self {
        self.lifetime = lifetime;
        self
    }

    /// Sets where the supervisor runs. The default is [`SupervisorKind::Thread`].
    pub fn supervisor(mut self, kind: SupervisorKind) -> Self {
        self.supervisor = kind;
        self
    }

    /// Makes the sandbox outlive this program, under this name. A process of the installed
    /// `sandbox` program owns it.
    pub fn detach(self, name: &str) -> Self {
        self.supervisor(SupervisorKind::Process)
            .lifetime(Lifetime::Persistent)
            .name(name)
    }

    /// Calls `listener` with each event until the sandbox is ready.
    pub fn on_event(mut self, listener: impl FnMut(&Event) + Send + 'static) -> Self {
        self.listener = Box::new(listener);
        self
    }
}
