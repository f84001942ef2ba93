//! The requests of one connection of the guest. The session checks each of them, rewrites it and
//! sends it to its host.

mod host;
mod rewrite;
mod send;

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;

use hyper::body::Incoming;
use hyper::header::{CONNECTION, HeaderValue, TRANSFER_ENCODING, UPGRADE};
use hyper::http::request::Parts;
use hyper::{Method, Request, Response, Version};
use tokio::net::TcpStream;
use tokio::sync::Mutex;

use super::authority::{Authority, Host};
use super::body::ResponseBody;
use super::context::ProxyContext;
use super::metered_stream::MeteredStream;
use super::refusal::Refusal;
use super::route::Route;
use super::target::{self, Form, Target};
use super::upstream::{UpgradedStream, Upstream};
use crate::access_log::{AskedBy, FlowStart};
use sandbox_spec::policy::{RuleName, Transport};

const HTTP_PORT: u16 = 80;
const HTTPS_PORT: u16 = 443;

/// The kind of a connection of the guest.
pub(super) enum ConnectionKind {
    /// A connection to the explicit proxy, for any host.
    ExplicitProxy,
    /// Plain HTTP to this address.
    PlainHttp(SocketAddr),
    /// Intercepted TLS to the host of a secret.
    InterceptedTls {
        /// The route of CONNECT or of the ClientHello.
        route: Route,
        http2: bool,
    },
}

/// The protocol that takes over a connection after its last response.
pub(super) enum Upgrade {
    /// A tunnel for TLS. The host is already connected.
    Connect {
        route: Route,
        upstream: Box<MeteredStream<TcpStream>>,
        address: SocketAddr,
    },
    /// A WebSocket.
    WebSocket {
        route: Route,
        upstream: UpgradedStream,
    },
}

/// One connection of the guest that carries HTTP.
pub(super) struct Session {
    context: Rc<ProxyContext>,
    kind: ConnectionKind,
    smuggling: RefCell<Rc<Cell<bool>>>,
    upstream: Mutex<Option<Upstream>>,
    upgrade: RefCell<Option<Upgrade>>,
}

impl Session {
    pub(super) fn new(
        context: Rc<ProxyContext>,
        kind: ConnectionKind,
        upstream: Option<Upstream>,
    ) -> Rc<Self> {
        Rc::new(Self {
            context,
            kind,
            smuggling: RefCell::default(),
            upstream: Mutex::new(upstream),
            upgrade: RefCell::default(),
        })
    }

    /// Sets the flag of the smuggling check.
    pub(super) fn set_smuggling_flag(&self, flag: Rc<Cell<bool>>) {
        self.smuggling.replace(flag);
    }

    /// Takes the upgrade that a request left.
    pub(super) fn take_upgrade(&self) -> Option<Upgrade> {
        self.upgrade.take()
    }

    /// Answers a request, with the host's response or with a refusal.
    pub(super) async fn answer(&self, request: Request<Incoming>) -> Response<ResponseBody> {
        let (parts, body) = request.into_parts();
        let unchecked = ends_check(&parts);
        let mut response = match self.pass(parts, body).await {
            Ok(response) => response,
            Err(refusal) => refusal.response(),
        };
        if unchecked && self.upgrade.borrow().is_none() {
            // `request_heads` did not check the bytes after such a request.
            response
                .headers_mut()
                .insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    async fn pass(
        &self,
        mut parts: Parts,
        body: Incoming,
    ) -> Result<Response<ResponseBody>, Refusal> {
        let target = target::read(&parts).and_then(|target| self.unambiguous(&parts, target));
        let target = target.inspect_err(|refusal| self.log_denied(refusal, None))?;
        let route = self
            .route(&target)
            .inspect_err(|refusal| self.log_denied(refusal, Some(&target.authority)))?;
        let passed = if target.form == Form::Connect {
            self.connect(route.clone()).await
        } else {
            match self.rewrite(&mut parts, &route) {
                Ok(prepared) => {
                    self.send(&route, Request::from_parts(parts, body), prepared)
                        .await
                }
                Err(refusal) => Err(refusal),
            }
        };
        passed.inspect_err(|refusal| route.log_denied(refusal))
    }

    fn unambiguous(&self, parts: &Parts, target: Target) -> Result<Target, Refusal> {
        if self.smuggling.borrow().get() && parts.headers.contains_key(TRANSFER_ENCODING) {
            return Err(Refusal::Malformed(
                "the request has both Content-Length and Transfer-Encoding",
            ));
        }
        Ok(target)
    }

    /// Connects the host of CONNECT before the response, so that the response can report a failure.
    async fn connect(&self, route: Route) -> Result<Response<ResponseBody>, Refusal> {
        let rule = route.allowed()?;
        // The allowlist is for the web. Another port needs a rule.
        if route.port != HTTPS_PORT && !matches!(rule, RuleName::Rule(_)) {
            return Err(Refusal::Port(route.port));
        }
        let (upstream, address) = route.connect().await?;
        self.upgrade.replace(Some(Upgrade::Connect {
            route,
            upstream: Box::new(upstream),
            address,
        }));
        Ok(Response::default())
    }

    /// Logs the denial of a request without a route.
    fn log_denied(&self, refusal: &Refusal, authority: Option<&Authority>) {
        let destination = match &self.kind {
            ConnectionKind::InterceptedTls { route, .. } => return route.log_denied(refusal),
            ConnectionKind::PlainHttp(destination) => Some(*destination),
            ConnectionKind::ExplicitProxy => None,
        };
        let (name, address) = match authority.map(|authority| &authority.host) {
            Some(Host::Name(name)) => (Some(name.clone()), None),
            Some(Host::Address(address)) => (None, Some(*address)),
            _ => (None, None),
        };
        let port = authority.and_then(|authority| authority.port);
        let flow = FlowStart {
            asked_by: AskedBy::Http,
            name,
            address: address.or(destination.map(|destination| destination.ip())),
            port: port
                .or(destination.map(|destination| destination.port()))
                .unwrap_or(0),
            transport: Transport::Tcp,
        };
        self.context
            .policy_engine
            .log_denied(flow, &refusal.rule(), refusal.reason());
    }

    fn speaks_http2(&self) -> bool {
        matches!(
            self.kind,
            ConnectionKind::InterceptedTls { http2: true, .. }
        )
    }
}

/// Returns whether `request_heads` checks no bytes after the request.
fn ends_check(parts: &Parts) -> bool {
    parts.version != Version::HTTP_2
        && (parts.method == Method::CONNECT
            || parts.headers.contains_key(TRANSFER_ENCODING)
            || parts.headers.contains_key(UPGRADE))
}
