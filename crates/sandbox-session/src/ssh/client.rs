//! A connection to a guest's sshd, with a pinned host key, key authentication and keepalives.

use std::borrow::Cow;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use russh::client::{self, AuthResult, DisconnectReason, Handle, Msg};
use russh::keys::{Algorithm, HashAlg, PrivateKey, PrivateKeyWithHashAlg, PublicKey};
use russh::{Channel, Disconnect, Preferred, cipher, compression, kex, keys, mac};
use rustix::net::sockopt::set_tcp_user_timeout;
use tokio::net::TcpStream;

use sandbox::Endpoint;

use super::error::{Cause, SshError};
use crate::SessionFuture;

/// The idle time after which a keepalive is sent to the guest.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);

/// The number of unanswered keepalives after which the connection counts as lost.
const KEEPALIVE_MAXIMUM: usize = 3;

/// The time after which unacknowledged data breaks the connection (`TCP_USER_TIMEOUT` of tcp(7)).
/// Keepalives do not cover this case, since they queue behind the data.
const SEND_TIMEOUT_MILLISECONDS: u32 = 60_000;

/// Key exchanges, cheapest first. Under emulation the post-quantum ones cost whole seconds, and the
/// connection never leaves this machine. The last two are markers, not algorithms: the list of
/// signature algorithms (RFC 8308) and OpenSSH's strict key exchange.
const KEY_EXCHANGES: &[kex::Name] = &[
    kex::CURVE25519,
    kex::CURVE25519_PRE_RFC_8731,
    kex::EXTENSION_SUPPORT_AS_CLIENT,
    kex::EXTENSION_OPENSSH_STRICT_KEX_AS_CLIENT,
];

/// Ciphers, cheapest under emulation first: ChaCha20 is plain arithmetic, AES needs instructions
/// that TCG emulates slowly.
const CIPHERS: &[cipher::Name] = &[cipher::CHACHA20_POLY1305, cipher::AES_128_GCM];

/// Both ciphers include authentication, but the protocol requires a list.
const MACS: &[mac::Name] = &[mac::HMAC_SHA256_ETM, mac::HMAC_SHA256];

/// Results of the connection's task, for the tasks that wait on a channel.
#[derive(Debug, Default)]
struct Findings {
    offered_key: Option<String>,
    lost: Option<Cause>,
}

#[derive(Debug)]
struct Pinned {
    host_key: PublicKey,
    findings: Arc<Mutex<Findings>>,
}

impl client::Handler for Pinned {
    type Error = russh::Error;

    async fn check_server_key(
        &mut self,
        offered: &keys::PublicKeyOrCertificate,
    ) -> Result<bool, Self::Error> {
        let keys::PublicKeyOrCertificate::PublicKey { key, .. } = offered else {
            return Ok(false);
        };
        let accepted = key.key_data() == self.host_key.key_data();
        if !accepted {
            lock(&self.findings).offered_key = Some(key.fingerprint(HashAlg::Sha256).to_string());
        }
        Ok(accepted)
    }

    async fn disconnected(
        &mut self,
        reason: DisconnectReason<Self::Error>,
    ) -> Result<(), Self::Error> {
        let cause = match &reason {
            DisconnectReason::ReceivedDisconnect(information) => Cause::of(&format_args!(
                "the server disconnected: {}",
                information.message
            )),
            DisconnectReason::Error(error) => Cause::of(error),
        };
        lock(&self.findings).lost = Some(cause);
        Ok(())
    }
}

fn lock(findings: &Mutex<Findings>) -> std::sync::MutexGuard<'_, Findings> {
    findings.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An authenticated connection. Dropping it closes it and hangs up its terminals.
pub struct Connection {
    handle: Handle<Pinned>,
    findings: Arc<Mutex<Findings>>,
}

impl Connection {
    /// Connects and authenticates until `deadline`.
    ///
    /// # Errors
    /// Each failure has its own variant of [`SshError`].
    pub fn open(
        endpoint: &Endpoint,
        deadline: Instant,
    ) -> SessionFuture<'_, Result<Self, SshError>> {
        Box::pin(async move {
            let started = Instant::now();
            tokio::time::timeout_at(deadline.into(), Self::open_unbounded(endpoint))
                .await
                .unwrap_or_else(|_| {
                    Err(SshError::ConnectDeadline {
                        address: endpoint.address,
                        waited: started.elapsed(),
                    })
                })
        })
    }

    async fn open_unbounded(endpoint: &Endpoint) -> Result<Self, SshError> {
        let address = endpoint.address;
        let identity = PrivateKey::read_openssh_file(&endpoint.identity).map_err(|error| {
            SshError::ParseKey {
                path: endpoint.identity.clone(),
                source: Cause::of(&error),
            }
        })?;
        let host_key: PublicKey =
            endpoint
                .host_key
                .parse()
                .map_err(|error| SshError::ParseKey {
                    path: endpoint.known_hosts.clone(),
                    source: Cause::of(&error),
                })?;
        let socket = TcpStream::connect(address)
            .await
            .and_then(prepare)
            .map_err(|source| SshError::Connect { address, source })?;
        let findings = Arc::<Mutex<Findings>>::default();
        let pinned = Pinned {
            host_key: host_key.clone(),
            findings: Arc::clone(&findings),
        };
        let handle = client::connect_stream(Arc::new(configuration()), socket, pinned)
            .await
            .map_err(|error| match lock(&findings).offered_key.take() {
                Some(offered) => SshError::HostKeyMismatch {
                    address,
                    expected: host_key.fingerprint(HashAlg::Sha256).to_string(),
                    offered,
                },
                None => SshError::Handshake {
                    address,
                    source: Cause::of(&error),
                },
            })?;
        let mut connection = Self { handle, findings };
        connection.authenticate(&endpoint.user, identity).await?;
        Ok(connection)
    }

    async fn authenticate(&mut self, user: &str, identity: PrivateKey) -> Result<(), SshError> {
        let identity = PrivateKeyWithHashAlg::new(Arc::new(identity), None);
        match self.handle.authenticate_publickey(user, identity).await {
            Ok(AuthResult::Success) => Ok(()),
            // russh also returns `Failure` if the connection is lost meanwhile.
            Ok(AuthResult::Failure { .. }) if !self.handle.is_closed() => {
                Err(SshError::AuthenticationRefused { user: user.into() })
            }
            Ok(AuthResult::Failure { .. }) => Err(self.lost()),
            Err(_) => Err(self.lost()),
        }
    }

    /// Opens a session channel for one command.
    pub(super) async fn session(&self) -> Result<Channel<Msg>, SshError> {
        match self.handle.channel_open_session().await {
            Ok(channel) => Ok(channel),
            Err(russh::Error::ChannelOpenFailure(_)) => Err(SshError::RequestRefused {
                action: "open another session",
            }),
            Err(_) => Err(self.lost()),
        }
    }

    /// Returns whether the connection is closed.
    pub fn is_lost(&self) -> bool {
        self.handle.is_closed()
    }

    /// Returns why the connection was lost.
    pub(super) fn lost(&self) -> SshError {
        let cause = lock(&self.findings).lost.take();
        SshError::ConnectionLost(
            cause.unwrap_or_else(|| Cause::of(&"the server closed the connection")),
        )
    }

    /// Disconnects. A lost connection is not an error.
    pub fn close(self) -> SessionFuture<'static, ()> {
        Box::pin(async move {
            let farewell = self
                .handle
                .disconnect(Disconnect::ByApplication, "", "")
                .await;
            if farewell.is_err() {
                tracing::debug!("the connection was closed by the other side");
            }
        })
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Connection")
            .field("findings", &self.findings)
            .finish_non_exhaustive()
    }
}

fn prepare(socket: TcpStream) -> std::io::Result<TcpStream> {
    socket.set_nodelay(true)?;
    set_tcp_user_timeout(&socket, SEND_TIMEOUT_MILLISECONDS)?;
    Ok(socket)
}

fn configuration() -> client::Config {
    client::Config {
        keepalive_interval: Some(KEEPALIVE_INTERVAL),
        keepalive_max: KEEPALIVE_MAXIMUM,
        nodelay: true,
        preferred: Preferred {
            kex: Cow::Borrowed(KEY_EXCHANGES),
            key: Cow::Borrowed(&[Algorithm::Ed25519]),
            host_key_certificates: Cow::Borrowed(&[]),
            cipher: Cow::Borrowed(CIPHERS),
            mac: Cow::Borrowed(MACS),
            compression: Cow::Borrowed(&[compression::NONE]),
        },
        ..client::Config::default()
    }
}
