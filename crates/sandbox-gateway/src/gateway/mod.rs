//! The gateway: the guest's only connection to any network.
//!
//! QEMU's NIC is one end of a socket pair. At the other end, a thread of the gateway terminates
//! every flow of the guest in user space. The policy engine decides which flows continue as host
//! sockets. The guest is hostile, so connections, datagram exchanges, buffers and descriptors are
//! bounded (docs/networking.md, "Bounds").

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

/// An error at the start of the gateway.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// The policy engine could not start.
    #[error(transparent)]
    PolicyEngine(#[from] NetworkError),
    /// TLS interception could not start.
    #[error(transparent)]
    Interception(#[from] InterceptionError),
    /// A host port could not be bound or found.
    #[error(transparent)]
    Port(#[from] PortError),
    /// A system call failed, or the thread ended.
    #[error("could not start the network gateway")]
    System(#[from] io::Error),
}

impl GatewayError {
    /// Returns the hint of the cause, if it has one.
    pub fn hint(&self) -> Option<Hint> {
        match self {
            Self::PolicyEngine(error) => error.hint(),
            Self::Interception(error) => error.hint(),
            Self::Port(error) => error.hint(),
            Self::System(_) => None,
        }
    }
}

/// The settings of a gateway.
#[derive(Debug, Clone)]
pub struct GatewayConfig {
    /// The settings of the policy engine.
    pub policy_engine: PolicyEngineConfig,
    /// The most TCP connections at once that the guest opens, and the most that the host opens.
    pub connections: usize,
    /// The bandwidth in bytes per second, separate for each direction; unlimited if `None`.
    pub bytes_per_second: Option<u64>,
    /// Secrets whose values never enter the guest.
    pub secrets: Vec<SecretSpec>,
    /// The certificate authority that the guest trusts, if there are secrets.
    pub authority: Option<AuthorityParts>,
}

/// A running gateway.
pub struct Gateway {
    requests: mpsc::UnboundedSender<GatewayRequest>,
    thread: JoinHandle<()>,
}

impl Gateway {
    /// Starts the gateway on `wire`, whose other end is QEMU's NIC.
    ///
    /// # Errors
    ///
    /// If a port cannot be used, the policy engine cannot start, the secrets' certificate
    /// authority is invalid, or the host refuses a thread.
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
                // A task, since waking the future that `block_on` polls costs two system calls.
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
            .unwrap_or_else(|_| Err(io::Error::other("the gateway's thread ended").into()))?;
        Ok(Self { requests, thread })
    }

    /// Sends a request to the gateway. A gateway that has ended drops the request, so its sender
    /// gets no reply.
    pub fn ask(&self, request: GatewayRequest) {
        drop(self.requests.send(request));
    }

    /// Waits until the gateway ends, which it does once QEMU has closed its end of the wire. This
    /// cuts all connections.
    pub fn finish(self) {
        let Self { requests, thread } = self;
        // This does not end the gateway. The closed wire does.
        drop(requests);
        if thread.join().is_err() {
            tracing::error!("the gateway's thread panicked");
        }
    }
}

/// Builds the runtime of the gateway's thread, whose tasks never leave that thread.
pub(super) fn runtime() -> io::Result<LocalRuntime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(LocalOptions::default())
}

/// Builds the gateway, on the thread that it then runs on.
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

/// Raises the soft descriptor limit to the hard limit, since each flow needs a host descriptor.
/// The usual soft limit of 1024 exists for programs that use select(2).
fn raise_descriptor_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        tracing::warn!(%error, "could not raise the descriptor limit");
    }
}

#[cfg(test)]
mod tests;
