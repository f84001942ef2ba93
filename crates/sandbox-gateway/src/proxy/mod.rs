//! The proxy by which the guest reaches hosts by name: an explicit HTTP proxy, and the
//! connections to ports 80 and 443 that are looked into.
//!
//! Each name is decided by the policy engine, once a connection or once a request; what a connection is for
//! must be readable and unambiguous, or it ends here. May use the rest of `network`; used by the
//! gateway, which hands in the guest's side of TCP connections.

mod authority;
mod body;
pub mod client_hello;
mod context;
mod explicit;
mod hop_by_hop;
mod http;
mod interception;
mod limits;
mod lingering_close;
mod mask;
mod metered_stream;
mod refusal;
mod request_heads;
mod rewind;
mod route;
mod session;
mod target;
mod tls_alert;
mod tls_upstream;
mod transparent;
mod tunnel;
mod upstream;

#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::rc::Rc;

use tokio::io::{AsyncRead, AsyncWrite};

use self::context::ProxyContext;
use self::session::{ConnectionKind, Session};
use super::interception::Interceptor;
use super::policy_engine::PolicyEngine;
use sandbox_spec::domain::DomainName;
use sandbox_spec::policy::RuleName;

/// The proxy of one sandbox. Cheap to clone; lives on the gateway's thread.
#[derive(Clone)]
pub struct Proxy(Rc<ProxyContext>);

impl Proxy {
    /// Proxy that ask `policy_engine`, with an interceptor where there are secrets.
    pub fn new(policy_engine: Rc<PolicyEngine>, interceptor: Option<Interceptor>) -> Self {
        Self(Rc::new(ProxyContext {
            policy_engine,
            interceptor,
        }))
    }

    /// Whether TLS connections to this name are opened, since a secret is for it.
    pub fn intercepts_tls(&self, name: &DomainName) -> bool {
        self.0.intercepts_tls(name)
    }

    /// Whether a TCP connection that the policy engine allows by its address belongs to
    /// [`Proxy::allowed_by_address`] all the same: to a port of the web, at an address that the
    /// gateway's DNS gave out for the host of a secret.
    pub fn intercepts(&self, destination: SocketAddr) -> bool {
        matches!(destination.port(), 80 | 443)
            && self.0.interceptor.is_some()
            && self
                .0
                .policy_engine
                .names_of(destination.ip())
                .iter()
                .any(|name| self.intercepts_tls(name))
    }

    /// Serves the explicit HTTP proxy on one connection of the guest, until it ends.
    pub async fn explicit<S>(&self, guest: S)
    where
        S: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        let session = Session::new(Rc::clone(&self.0), ConnectionKind::ExplicitProxy, None);
        explicit::serve(&self.0, guest, session).await;
    }

    /// Serves one connection of the guest to port 80 or 443 of `destination`, for which the policy engine
    /// said [`Verdict::Intercept`](super::policy::Verdict::Intercept), until it ends.
    pub async fn transparent<S>(&self, guest: S, destination: SocketAddr)
    where
        S: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        if destination.port() == 443 {
            transparent::tls(&self.0, guest, destination).await;
        } else {
            transparent::http(&self.0, guest, destination).await;
        }
    }

    /// Serves one connection of the guest to `destination` that the policy engine allows by its address
    /// and [`Proxy::intercepts`] is true for, until it ends: TLS to the host of a secret is opened,
    /// other TLS and whatever hides its name goes on to `to` unread. `rule` is what allowed it.
    pub async fn allowed_by_address<S>(
        &self,
        guest: S,
        destination: SocketAddr,
        to: SocketAddr,
        rule: RuleName,
    ) where
        S: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        if destination.port() == 443 {
            transparent::allowed_tls(&self.0, guest, destination, to, &rule).await;
        } else {
            transparent::http(&self.0, guest, destination).await;
        }
    }
}
