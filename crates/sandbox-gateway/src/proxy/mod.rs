//! The proxy: an explicit HTTP proxy, and a transparent proxy for ports 80 and 443.
//!
//! The policy engine decides about the host of each connection and of each request. The proxy
//! denies a connection or a request whose host is unreadable or ambiguous. The proxy uses the
//! policy engine, the interception and the access log. The gateway passes the guest's side of TCP
//! connections to it.

mod authority;
mod body;
pub mod client_hello;
mod context;
mod explicit;
mod forwarding;
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

/// The proxy of one sandbox. It lives on the gateway's thread and is cheap to clone.
#[derive(Clone)]
pub struct Proxy(Rc<ProxyContext>);

impl Proxy {
    /// Returns a proxy. It needs an interceptor if the sandbox has secrets.
    pub fn new(policy_engine: Rc<PolicyEngine>, interceptor: Option<Interceptor>) -> Self {
        Self(Rc::new(ProxyContext {
            policy_engine,
            interceptor,
        }))
    }

    /// Returns whether the proxy intercepts TLS to this host, because a secret is for it.
    pub fn intercepts_tls(&self, name: &DomainName) -> bool {
        self.0.intercepts_tls(name)
    }

    /// Returns whether the proxy must serve a TCP connection that the policy allows by its address,
    /// with [`Proxy::allowed_by_address`]. It must if the port is 80 or 443 and the gateway's DNS
    /// resolved the host of a secret to the address.
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

    /// Serves one connection of the guest to the explicit proxy, until it ends.
    pub async fn explicit<S>(&self, guest: S)
    where
        S: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        let session = Session::new(Rc::clone(&self.0), ConnectionKind::ExplicitProxy, None);
        explicit::serve(&self.0, guest, session).await;
    }

    /// Serves one connection of the guest to port 80 or 443 of `destination`, until it ends. The
    /// policy engine must have returned
    /// [`Verdict::Intercept`](sandbox_spec::policy::Verdict::Intercept).
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

    /// Serves one connection of the guest for which [`Proxy::intercepts`] is true, until it ends.
    ///
    /// Intercepts TLS to the host of a secret. Passes other TLS, and TLS without a readable name,
    /// on to `to`. `rule` is the rule that allowed the address.
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
