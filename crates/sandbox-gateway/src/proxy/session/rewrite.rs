//! What becomes of a request before its host gets it.

use hyper::Version;
use hyper::header::{ACCEPT_ENCODING, HOST, HeaderValue};
use hyper::http::request::Parts;
use hyper::http::uri::{InvalidUri, PathAndQuery, Scheme, Uri};

use super::{ConnectionKind, HTTP_PORT, HTTPS_PORT, Session};
use crate::proxy::hop_by_hop;
use crate::proxy::mask::Mask;
use crate::proxy::refusal::Refusal;
use crate::proxy::route::Route;

/// What is to be done with a request's answer.
pub(super) struct ResponseHandling {
    /// Whether it may be `101`.
    pub(super) websocket: bool,
    pub(super) mask: Option<Mask>,
}

impl Session {
    /// Makes the request what its host shall get.
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
        let mask = self.put_secrets(parts, route, intercepted)?;
        if mask.is_some() {
            // Only what is not compressed can be looked through for the value.
            parts
                .headers
                .insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        }
        address_to(parts, route, intercepted, http2)?;
        Ok(ResponseHandling { websocket, mask })
    }

    fn put_secrets(
        &self,
        parts: &mut Parts,
        route: &Route,
        intercepted: bool,
    ) -> Result<Option<Mask>, Refusal> {
        let Some(secrets) = self.context.secrets() else {
            return Ok(None);
        };
        let put = if intercepted {
            secrets.substitute(parts, &route.name).map(Mask::new)
        } else {
            secrets
                .refuse_in_plaintext(parts, &route.name)
                .map(|()| None)
        };
        put.map_err(|misdirected| Refusal::Secret {
            secret: misdirected.secret,
            name: route.name.clone(),
            own_host: misdirected.own_host,
        })
    }
}

/// Writes the target and the `Host` as the host itself expects them.
fn address_to(
    parts: &mut Parts,
    route: &Route,
    intercepted: bool,
    http2: bool,
) -> Result<(), Refusal> {
    let unwritable = |_: hyper::http::Error| Refusal::Malformed("the target cannot be written");
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
