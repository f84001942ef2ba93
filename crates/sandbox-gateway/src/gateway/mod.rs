//! The gateway: the guest's only way to any network.
//!
//! QEMU's NIC is one end of a pair of sockets. At the other, on a thread of
//! its own, every flow of the guest ends in user space; the [policy engine](super::policy_engine)
//! says which of them may go on as a socket of the host. The guest is hostile:
//! connections, exchanges of datagrams, buffers and descriptors are bounded
//! (docs/networking.md has the figures).

mod connections;
mod core;
mod datagrams;
mod exchanges;
mod link;
mod neighbors;
mod packet;
mod ports;
mod published_ports;
mod questions;
mod relay;
mod requests;
mod shaper;
mod tcp;
mod wire;

use sandbox_host::hint::Hint;
use std::io;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::thread::JoinHandle;

use tokio::runtime::{LocalOptions, LocalRuntime};
use tokio::sync::mpsc;

use self::core::Core;
pub use self::ports::{HostPorts, PortError};
use super::error::NetworkError;
use super::interception::{AuthorityParts, InterceptionError};
use super::policy_engine::{PolicyEngine, PolicyEngineConfig};
use super::request::GatewayRequest;
use sandbox_spec::secret::SecretSpec;

/// Why the gateway could not be made.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// The policy's own parts.
    #[error(transparent)]
    PolicyEngine(#[from] NetworkError),
    /// Secrets and their authority.
    #[error(transparent)]
    Interception(#[from] InterceptionError),
    /// A port of the host.
    #[error(transparent)]
    Port(#[from] PortError),
    /// The host failed at something basic.
    #[error("the gateway of the guest's network cannot be started")]
    System(#[from] io::Error),
}

impl GatewayError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<Hint> {
        match self {
            Self::PolicyEngine(error) => error.hint(),
            Self::Interception(error) => error.hint(),
            Self::Port(error) => error.hint(),
            Self::System(_) => None,
        }
    }
}

/// What a gateway is made from.
#[derive(Debug, Clone)]
pub struct GatewayConfig {
    /// Who may talk to whom.
    pub policy_engine: PolicyEngineConfig,
    /// At most so many TCP connections at once.
    pub connections: usize,
    /// At most so many bytes per second in each direction.
    pub bytes_per_second: Option<u64>,
    /// Values that stay outside.
    pub secrets: Vec<SecretSpec>,
    /// The authority that the guest trusts, where there are secrets.
    pub authority: Option<AuthorityParts>,
}

/// A running gateway.
pub struct Gateway {
    requests: mpsc::UnboundedSender<GatewayRequest>,
    thread: JoinHandle<()>,
}

impl Gateway {
    /// Starts the gateway at the other end of QEMU's socket.
    ///
    /// # Errors
    /// When a port cannot be used, a file of the policy's cannot be read, or
    /// the host has no thread for it.
    pub fn start(
        wire: UnixStream,
        config: GatewayConfig,
        ports: HostPorts,
    ) -> Result<Self, GatewayError> {
        wire.set_nonblocking(true)?;
        let (requests, receiver) = mpsc::unbounded_channel();
        let (started, starting) = std::sync::mpsc::sync_channel(1);
        let thread = std::thread::Builder::new()
            .name("gateway".into())
            .spawn(move || {
                let runtime = match runtime() {
                    Ok(runtime) => runtime,
                    Err(error) => return drop(started.send(Err(error.into()))),
                };
                // A task, and not what is blocked on: to wake that costs the
                // runtime two system calls.
                let serving = runtime.spawn_local(async move {
                    match prepare(config, ports) {
                        Ok(core) => {
                            drop(started.send(Ok(())));
                            core.run(wire, receiver).await;
                        }
                        Err(error) => drop(started.send(Err(error))),
                    }
                });
                if let Err(error) = runtime.block_on(serving) {
                    std::panic::resume_unwind(error.into_panic());
                }
            })?;
        starting
            .recv()
            .unwrap_or_else(|_| Err(io::Error::other("its thread ended").into()))?;
        Ok(Self { requests, thread })
    }

    /// Asks the gateway for something; a gateway that has ended refuses it by
    /// dropping the request.
    pub fn ask(&self, request: GatewayRequest) {
        drop(self.requests.send(request));
    }

    /// Ends it. All connections are cut.
    pub fn finish(self) {
        let Self { requests, thread } = self;
        // Others may have a clone: it is the wire that ends the gateway, and
        // QEMU is gone by now.
        drop(requests);
        if thread.join().is_err() {
            tracing::error!("the gateway's thread panicked");
        }
    }
}

/// What the gateway's thread runs in: its tasks never leave it.
pub(super) fn runtime() -> io::Result<LocalRuntime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(LocalOptions::default())
}

/// Makes the gateway on its own thread.
fn prepare(config: GatewayConfig, ports: HostPorts) -> Result<Rc<Core>, GatewayError> {
    raise_descriptor_limit();
    let ipv6 = config.policy_engine.ipv6 && core::host_has_ipv6();
    let policy_engine = PolicyEngine::new(PolicyEngineConfig {
        ipv6,
        ..config.policy_engine
    })?;
    let interceptor = match config.authority {
        Some(authority) => Some(authority.interceptor(config.secrets)?),
        None => None,
    };
    let core = Core::new(
        policy_engine,
        interceptor,
        config.connections,
        config.bytes_per_second,
        ipv6,
    )?;
    core.serve_ports(ports)?;
    Ok(core)
}

/// Each connection of the guest's takes a descriptor of the host's; the usual
/// soft limit of 1024 is for programs that use select(2).
fn raise_descriptor_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        tracing::warn!(%error, "the limit of descriptors stays as it is");
    }
}

#[cfg(test)]
mod tests;
