//! Sends a request to its host, and passes the response on.

use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::{Request, Response, StatusCode};

use super::rewrite::ResponseHandling;
use super::{ConnectionKind, Session, Upgrade};
use crate::proxy::body::ResponseBody;
use crate::proxy::refusal::Refusal;
use crate::proxy::route::Route;
use crate::proxy::tls_upstream::{self, HTTP1, HTTP2};
use crate::proxy::upstream::{UpgradedStream, Upstream};
use crate::proxy::{hop_by_hop, mask};

/// The most attempts for a request that the host has not received.
const ATTEMPTS: u32 = 3;

impl Session {
    /// Sends the request to its host, on the open connection if that is still usable.
    pub(super) async fn send(
        &self,
        route: &Route,
        mut request: Request<Incoming>,
        prepared: ResponseHandling,
    ) -> Result<Response<ResponseBody>, Refusal> {
        let mut attempts_left = ATTEMPTS;
        loop {
            let mut slot = self.upstream.lock().await;
            let (mut upstream, kept) = self.upstream_for(route, slot.take()).await?;
            let sending = upstream.send(request);
            let held = if self.speaks_http2() {
                // Other requests do not wait for this response.
                *slot = Some(upstream);
                None
            } else {
                Some((slot, upstream))
            };
            attempts_left -= 1;
            match sending.await {
                Ok(response) => {
                    let switched = match held {
                        Some((_, upstream)) if is_switching(&response) => upstream.upgraded().await,
                        Some((mut slot, upstream)) => {
                            *slot = Some(upstream);
                            None
                        }
                        None => None,
                    };
                    return self.received(route, response, prepared, switched);
                }
                Err(mut error) => match error.take_message() {
                    // The host closed the kept-alive connection before it received the request.
                    Some(unsent) if kept && attempts_left > 0 => request = unsent,
                    _ => return Err(route.upstream_failed(error.error())),
                },
            }
        }
    }

    /// Returns a connection to the host, and whether it was already open.
    async fn upstream_for(
        &self,
        route: &Route,
        open: Option<Upstream>,
    ) -> Result<(Upstream, bool), Refusal> {
        if let Some(mut open) = open {
            let same = open.name == route.name && open.port == route.port;
            if same && route.still_allowed(open.address) && open.is_usable().await {
                return Ok((open, true));
            }
        }
        let upstream = match &self.kind {
            ConnectionKind::InterceptedTls { http2, .. } => {
                let protocol = if *http2 { HTTP2 } else { HTTP1 };
                let connected = tls_upstream::connect(&self.context, route, &[protocol]).await?;
                if connected.http2 != *http2 {
                    return Err(Refusal::Upstream {
                        name: route.name.clone(),
                        error: "it no longer speaks the same version of HTTP".into(),
                    });
                }
                connected.start_http(route).await?
            }
            _ => {
                let (stream, address) = route.connect().await?;
                let last = stream.last_activity();
                Upstream::start(route.clone(), false, address, stream, last)
                    .await
                    .map_err(|error| route.upstream_failed(&error))?
            }
        };
        Ok((upstream, false))
    }

    /// Returns the host's response for the guest: without hop-by-hop headers, and masked.
    fn received(
        &self,
        route: &Route,
        response: Response<Incoming>,
        prepared: ResponseHandling,
        switched: Option<UpgradedStream>,
    ) -> Result<Response<ResponseBody>, Refusal> {
        let (mut parts, body) = response.into_parts();
        let switching = parts.status == StatusCode::SWITCHING_PROTOCOLS;
        hop_by_hop::clean_response(&mut parts.headers, switching);
        if switching {
            let (true, Some(upstream)) = (prepared.websocket, switched) else {
                return Err(Refusal::Upstream {
                    name: route.name.clone(),
                    error: "it switched to a protocol without a request for it".into(),
                });
            };
            self.upgrade.replace(Some(Upgrade::WebSocket {
                route: route.clone(),
                upstream,
            }));
        }
        let body = match prepared.mask {
            Some(mask) => {
                mask.mask_headers(&mut parts.headers);
                mask::mask_body(mask, body)
            }
            None => body.map_err(Into::into).boxed_unsync(),
        };
        Ok(Response::from_parts(parts, body))
    }
}

fn is_switching(response: &Response<Incoming>) -> bool {
    response.status() == StatusCode::SWITCHING_PROTOCOLS
}
