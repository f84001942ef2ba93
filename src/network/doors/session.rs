//! The requests of one connection of the guest: each is decided, changed and sent on.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;

use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::header::{ACCEPT_ENCODING, CONNECTION, HOST, HeaderValue, TRANSFER_ENCODING, UPGRADE};
use hyper::http::request::Parts;
use hyper::http::uri::{PathAndQuery, Scheme, Uri};
use hyper::{Method, Request, Response, StatusCode, Version};
use tokio::net::TcpStream;
use tokio::sync::Mutex;

use super::Shared;
use super::authority::{Authority, Host};
use super::body::ResponseBody;
use super::counted::Counted;
use super::hop_by_hop;
use super::mask::{self, Mask};
use super::passage::Way;
use super::refusal::Refusal;
use super::target::{self, Form, Target};
use super::upstream::{Switched, Upstream};
use crate::network::access_log::{AskedBy, FlowStart};
use crate::network::domain::DomainName;
use crate::network::gate::Gate;
use crate::network::policy::{RuleName, Transport};

const HTTP_PORT: u16 = 80;
const HTTPS_PORT: u16 = 443;

/// What a connection of the guest was opened for.
pub(super) enum Purpose {
    /// The explicit proxy: any name.
    Proxy,
    /// A web server, by its address.
    PlainServer(SocketAddr),
    /// A host of a secret, whose TLS ends here.
    OpenedTls {
        /// The name of CONNECT or of the ClientHello.
        way: Way,
        http2: bool,
    },
}

/// What happens to the connection after its last answer.
pub(super) enum Next {
    /// A tunnel for TLS, to the host that is connected already.
    Connect {
        way: Way,
        upstream: Counted<TcpStream>,
        address: SocketAddr,
    },
    /// The bytes of a WebSocket.
    Switched { way: Way, upstream: Switched },
}

/// One connection of the guest that carries HTTP.
pub(super) struct Session {
    shared: Rc<Shared>,
    purpose: Purpose,
    smuggling: RefCell<Rc<Cell<bool>>>,
    upstream: Mutex<Option<Upstream>>,
    next: RefCell<Option<Next>>,
}

impl Session {
    pub(super) fn new(
        shared: Rc<Shared>,
        purpose: Purpose,
        upstream: Option<Upstream>,
    ) -> Rc<Self> {
        Rc::new(Self {
            shared,
            purpose,
            smuggling: RefCell::default(),
            upstream: Mutex::new(upstream),
            next: RefCell::default(),
        })
    }

    /// Where a request with two lengths is announced.
    pub(super) fn watch_for_smuggling(&self, flag: Rc<Cell<bool>>) {
        self.smuggling.replace(flag);
    }

    /// What follows the end of HTTP.
    pub(super) fn take_next(&self) -> Option<Next> {
        self.next.take()
    }

    /// Answers a request, one way or the other.
    pub(super) async fn answer(&self, request: Request<Incoming>) -> Response<ResponseBody> {
        let (parts, body) = request.into_parts();
        let unwatched = ends_looking(&parts);
        let mut response = match self.pass(parts, body).await {
            Ok(response) => response,
            Err(refusal) => refusal.response(),
        };
        if unwatched && self.next.borrow().is_none() {
            // What follows such a request was not looked at: see `request_heads`.
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
        let target = target.inspect_err(|refusal| self.log(refusal, None))?;
        let way = self
            .way(&target)
            .inspect_err(|refusal| self.log(refusal, Some(&target.authority)))?;
        let passed = if target.form == Form::Connect {
            self.connect(way.clone()).await
        } else {
            match self.prepare(&mut parts, &way) {
                Ok(prepared) => {
                    self.send(&way, Request::from_parts(parts, body), prepared)
                        .await
                }
                Err(refusal) => Err(refusal),
            }
        };
        passed.inspect_err(|refusal| {
            way.gate
                .denied(way.flow_start(), &refusal.rule(), refusal.reason());
        })
    }

    fn unambiguous(&self, parts: &Parts, target: Target) -> Result<Target, Refusal> {
        if self.smuggling.borrow().get() && parts.headers.contains_key(TRANSFER_ENCODING) {
            return Err(Refusal::Malformed(
                "the request has both Content-Length and Transfer-Encoding",
            ));
        }
        Ok(target)
    }

    /// Which host a request is for, if this connection is for such requests.
    fn way(&self, target: &Target) -> Result<Way, Refusal> {
        let name = || match &target.authority.host {
            Host::Name(name) => Ok(name.clone()),
            Host::Address(address) => Err(Refusal::Address(Some(*address))),
            Host::Number(_) => Err(Refusal::Address(None)),
        };
        let port = target.authority.port;
        match (&self.purpose, target.form) {
            (Purpose::Proxy, Form::Connect) => {
                Ok(self.plain_way(AskedBy::Connect, name()?, port.unwrap_or(HTTPS_PORT), None))
            }
            (Purpose::Proxy, Form::Absolute) => {
                Ok(self.plain_way(AskedBy::Http, name()?, port.unwrap_or(HTTP_PORT), None))
            }
            (Purpose::Proxy, Form::Origin) => Err(Refusal::Malformed(
                "this is an HTTP proxy: requests name their host, as in `GET http://example.com/`",
            )),
            (_, Form::Connect) => Err(Refusal::Malformed("CONNECT is for the proxy")),
            (Purpose::PlainServer(destination), _) => {
                let name = name()?;
                let port = port.unwrap_or(HTTP_PORT);
                if port != destination.port() {
                    return Err(Refusal::Malformed("the Host header names another port"));
                }
                let way = self.plain_way(AskedBy::Http, name, port, Some(*destination));
                way.agrees()?;
                Ok(way)
            }
            (Purpose::OpenedTls { way, .. }, _) => {
                let same_port = port.unwrap_or(HTTPS_PORT) == way.port;
                if same_port && target.authority.host == Host::Name(way.name.clone()) {
                    return Ok(way.clone());
                }
                Err(Refusal::Mismatch {
                    expected: way.name.to_string(),
                    found: shown(&target.authority),
                })
            }
        }
    }

    fn plain_way(
        &self,
        asked_by: AskedBy,
        name: DomainName,
        port: u16,
        destination: Option<SocketAddr>,
    ) -> Way {
        Way {
            gate: Rc::clone(&self.shared.gate),
            asked_by,
            name,
            port,
            destination,
        }
    }

    /// CONNECT: the host is connected before the answer, so that failures have words.
    async fn connect(&self, way: Way) -> Result<Response<ResponseBody>, Refusal> {
        let rule = way.allowed()?;
        // Another port needs a rule of its own; the list is for the web.
        if way.port != HTTPS_PORT && !matches!(rule, RuleName::Rule(_)) {
            return Err(Refusal::Port(way.port));
        }
        let (upstream, address) = way.connect().await?;
        self.next.replace(Some(Next::Connect {
            way,
            upstream,
            address,
        }));
        Ok(Response::default())
    }

    /// Makes the request what its host shall get.
    fn prepare(&self, parts: &mut Parts, way: &Way) -> Result<Prepared, Refusal> {
        way.allowed()?;
        let http2 = matches!(self.purpose, Purpose::OpenedTls { http2: true, .. });
        let opened = matches!(self.purpose, Purpose::OpenedTls { .. });
        let websocket = hop_by_hop::clean_request(&mut parts.headers) && !http2;
        if parts.uri.scheme() == Some(&Scheme::HTTPS) && !opened {
            return Err(Refusal::Malformed("https:// needs CONNECT"));
        }
        let mask = self.put_secrets(parts, way, opened)?;
        if mask.is_some() {
            // Only what is not compressed can be looked through for the value.
            parts
                .headers
                .insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        }
        address_to(parts, way, opened, http2);
        Ok(Prepared { websocket, mask })
    }

    fn put_secrets(
        &self,
        parts: &mut Parts,
        way: &Way,
        opened: bool,
    ) -> Result<Option<Mask>, Refusal> {
        let Some(secrets) = self.shared.secrets() else {
            return Ok(None);
        };
        let put = if opened {
            secrets.substitute(parts, &way.name).map(Mask::new)
        } else {
            secrets.keep_from_plain(parts, &way.name).map(|()| None)
        };
        put.map_err(|astray| Refusal::Secret {
            secret: astray.secret,
            name: way.name.clone(),
            own_host: astray.own_host,
        })
    }

    /// Sends the request to its host, on the open connection if that is still good.
    async fn send(
        &self,
        way: &Way,
        request: Request<Incoming>,
        prepared: Prepared,
    ) -> Result<Response<ResponseBody>, Refusal> {
        let mut slot = self.upstream.lock().await;
        let (mut upstream, kept) = self.upstream_for(way, slot.take()).await?;
        let mut sending = upstream.send(request);
        let http2 = matches!(self.purpose, Purpose::OpenedTls { http2: true, .. });
        if http2 {
            // Its other requests need not wait for this one's answer.
            *slot = Some(upstream);
            drop(slot);
            let response = sending
                .await
                .map_err(|error| way.upstream_failed(error.error()))?;
            return self.received(way, response, prepared, None);
        }
        let response = match sending.await {
            Ok(response) => response,
            Err(mut error) => {
                // The host closed a kept connection just now, and has not seen the request.
                let unsent = error.take_message().filter(|_| kept);
                let Some(request) = unsent else {
                    return Err(way.upstream_failed(error.error()));
                };
                (upstream, _) = self.upstream_for(way, None).await?;
                sending = upstream.send(request);
                sending
                    .await
                    .map_err(|error| way.upstream_failed(error.error()))?
            }
        };
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            let switched = upstream.switched().await;
            return self.received(way, response, prepared, switched);
        }
        *slot = Some(upstream);
        self.received(way, response, prepared, None)
    }

    /// An open connection to the host; true where it was open before.
    async fn upstream_for(
        &self,
        way: &Way,
        open: Option<Upstream>,
    ) -> Result<(Upstream, bool), Refusal> {
        if let Some(mut open) = open {
            let same = open.name == way.name && open.port == way.port;
            if same && way.still_allowed(open.address) && open.is_usable().await {
                return Ok((open, true));
            }
        }
        let upstream = match &self.purpose {
            Purpose::OpenedTls { http2, .. } => {
                let protocol = if *http2 {
                    b"h2".as_slice()
                } else {
                    b"http/1.1"
                };
                let opened = super::opened::connect(&self.shared, way, &[protocol]).await?;
                if opened.http2 != *http2 {
                    return Err(Refusal::Upstream {
                        name: way.name.clone(),
                        error: "it no longer speaks the same version of HTTP".into(),
                    });
                }
                opened.begin(way).await?
            }
            _ => {
                let (stream, address) = way.connect().await?;
                let last = stream.last_activity();
                Upstream::begin(way.clone(), false, address, stream, last)
                    .await
                    .map_err(|error| way.upstream_failed(&error))?
            }
        };
        Ok((upstream, false))
    }

    /// Makes the host's answer what the guest shall get.
    fn received(
        &self,
        way: &Way,
        response: Response<Incoming>,
        prepared: Prepared,
        switched: Option<Switched>,
    ) -> Result<Response<ResponseBody>, Refusal> {
        let (mut parts, body) = response.into_parts();
        let switching = parts.status == StatusCode::SWITCHING_PROTOCOLS;
        hop_by_hop::clean_response(&mut parts.headers, switching);
        if switching {
            let (true, Some(upstream)) = (prepared.websocket, switched) else {
                return Err(Refusal::Upstream {
                    name: way.name.clone(),
                    error: "it switched to a protocol that nobody asked for".into(),
                });
            };
            self.next.replace(Some(Next::Switched {
                way: way.clone(),
                upstream,
            }));
        }
        let body = match prepared.mask {
            Some(mask) => {
                mask.cover_headers(&mut parts.headers);
                mask::cover_body(mask, body)
            }
            None => body.map_err(Into::into).boxed_unsync(),
        };
        Ok(Response::from_parts(parts, body))
    }

    /// Logs a request that has no way.
    fn log(&self, refusal: &Refusal, authority: Option<&Authority>) {
        let gate: &Gate = &self.shared.gate;
        let (address, asked_by) = match &self.purpose {
            Purpose::Proxy => (None, AskedBy::Http),
            Purpose::PlainServer(destination) => (Some(*destination), AskedBy::Http),
            Purpose::OpenedTls { way, .. } => {
                return gate.denied(way.flow_start(), &refusal.rule(), refusal.reason());
            }
        };
        let host = authority.map(|authority| &authority.host);
        gate.denied(
            FlowStart {
                asked_by,
                name: match host {
                    Some(Host::Name(name)) => Some(name.clone()),
                    _ => None,
                },
                address: match host {
                    Some(Host::Address(address)) => Some(*address),
                    _ => address.map(|address| address.ip()),
                },
                port: authority
                    .and_then(|authority| authority.port)
                    .or(address.map(|address| address.port()))
                    .unwrap_or(0),
                transport: Transport::Tcp,
            },
            &refusal.rule(),
            refusal.reason(),
        );
    }
}

/// What is to be done with a request's answer.
struct Prepared {
    /// Whether it may be `101`.
    websocket: bool,
    mask: Option<Mask>,
}

/// Whether what follows the request is not looked at by `request_heads`.
fn ends_looking(parts: &Parts) -> bool {
    parts.version != Version::HTTP_2
        && (parts.method == Method::CONNECT
            || parts.headers.contains_key(TRANSFER_ENCODING)
            || parts.headers.contains_key(UPGRADE))
}

/// Writes the target and the `Host` as the host itself expects them.
fn address_to(parts: &mut Parts, way: &Way, opened: bool, http2: bool) {
    let default_port = if opened { HTTPS_PORT } else { HTTP_PORT };
    let authority = if way.port == default_port {
        way.name.to_string()
    } else {
        format!("{}:{}", way.name, way.port)
    };
    let path = parts.uri.path_and_query().cloned();
    let path = path.unwrap_or_else(|| PathAndQuery::from_static("/"));
    let host = HeaderValue::from_str(&authority).expect("a domain name is visible ASCII");
    let mut uri = hyper::http::uri::Parts::default();
    uri.path_and_query = Some(path);
    if http2 {
        uri.scheme = Some(Scheme::HTTPS);
        uri.authority = authority.parse().ok();
        parts.headers.remove(HOST);
        parts.version = Version::HTTP_2;
    } else {
        parts.headers.insert(HOST, host);
        parts.version = Version::HTTP_11;
    }
    parts.uri = Uri::from_parts(uri).expect("a path, or scheme, authority and path");
}

fn shown(authority: &Authority) -> String {
    let host = match &authority.host {
        Host::Name(name) => name.to_string(),
        Host::Address(address) => address.to_string(),
        Host::Number(number) => number.clone(),
    };
    match authority.port {
        Some(port) => format!("{host} port {port}"),
        None => host,
    }
}
