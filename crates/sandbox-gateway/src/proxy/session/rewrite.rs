//! Rewrites a request for its host.

use hyper::Version;
use hyper::header::{ACCEPT_ENCODING, HOST, HeaderValue};
use hyper::http::request::Parts;
use hyper::http::uri::{InvalidUri, PathAndQuery, Scheme, Uri};

use super::{ConnectionKind, HTTP_PORT, HTTPS_PORT, Session};
use crate::proxy::hop_by_hop;
use crate::proxy::mask::Mask;
use crate::proxy::refusal::Refusal;
use crate::proxy::route::Route;

/// The handling of the response to a request.
pub(super) struct ResponseHandling {
    /// Whether the response may be `101 Switching Protocols`.
    pub(super) websocket: bool,
    pub(super) mask: Option<Mask>,
}

impl Session {
    /// Removes hop-by-hop headers, inserts secrets, and writes the target for the host.
    pub(super) fn rewrite(
        &self,
        parts: &mut Parts,
        route: &Route,
    ) -> Result<ResponseHandling, Refusal> {
        route.allowed()?;
        let http2 = self.speaks_http2();
        let intercepted = matches!(self.kind, ConnectionKind::InterceptedTls { .. });
        let websocket = hop_by_hop::clean_request(&mut parts.headers, http2);
        if parts.uri.scheme() == Some(&Scheme::HTTPS) && !intercepted {
            return Err(Refusal::Malformed("https:// needs CONNECT"));
        }
        let mask = self.insert_secrets(parts, route, intercepted)?;
        if mask.is_some() {
            // Only an uncompressed body can be masked.
            parts
                .headers
                .insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        }
        write_target(parts, route, intercepted, http2)?;
        Ok(ResponseHandling { websocket, mask })
    }

    fn insert_secrets(
        &self,
        parts: &mut Parts,
        route: &Route,
        intercepted: bool,
    ) -> Result<Option<Mask>, Refusal> {
        let Some(secrets) = self.context.secrets() else {
            return Ok(None);
        };
        let inserted = if intercepted {
            secrets.substitute(parts, &route.name).map(Mask::new)
        } else {
            secrets
                .refuse_in_plaintext(parts, &route.name)
                .map(|()| None)
        };
        inserted.map_err(|misdirected| Refusal::Secret {
            secret: misdirected.secret,
            name: route.name.clone(),
            own_host: misdirected.own_host,
        })
    }
}

/// Writes the target and `Host` as an origin server expects them.
fn write_target(
    parts: &mut Parts,
    route: &Route,
    intercepted: bool,
    http2: bool,
) -> Result<(), Refusal> {
    let unwritable = |_: hyper::http::Error| Refusal::Malformed("the target is not valid");
    let default_port = if intercepted { HTTPS_PORT } else { HTTP_PORT };
    let authority = if route.port == default_port {
        route.name.to_string()
    } else {
        format!("{}:{}", route.name, route.port)
    };
    let path = parts.uri.path_and_query().cloned();
    let mut uri = hyper::http::uri::Parts::default();
    uri.path_and_query = Some(path.unwrap_or_else(|| PathAndQuery::from_static("/")));
    let host = HeaderValue::from_str(&authority).map_err(|error| unwritable(error.into()))?;
    if http2 {
        uri.scheme = Some(Scheme::HTTPS);
        uri.authority = Some(
            authority
                .parse()
                .map_err(|error: InvalidUri| unwritable(error.into()))?,
        );
        parts.headers.remove(HOST);
        parts.version = Version::HTTP_2;
    } else {
        parts.headers.insert(HOST, host);
        parts.version = Version::HTTP_11;
    }
    parts.uri = Uri::from_parts(uri).map_err(|error| unwritable(error.into()))?;
    Ok(())
}
