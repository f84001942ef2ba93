//! Removes headers that concern the connection and not the message (RFC 9110, section 7.6.1).

use hyper::header::{
    CONNECTION, EXPECT, HeaderMap, HeaderName, HeaderValue, PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION, TE, TRANSFER_ENCODING, UPGRADE,
};

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");

/// Removes the hop-by-hop headers of a request. Returns true if it asks for a WebSocket.
///
/// The headers of a WebSocket stay. `Transfer-Encoding` also stays, since hyper needs it for the
/// body. So does `TE: trailers` of HTTP/2 (RFC 9113, section 8.2.2), since gRPC needs it.
pub(super) fn clean_request(headers: &mut HeaderMap, http2: bool) -> bool {
    let websocket = !http2 && asks_for_websocket(headers);
    let trailers = http2 && headers.get(TE).is_some_and(|value| value == "trailers");
    clean(headers);
    if trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    // hyper sends `100 Continue` itself.
    headers.remove(EXPECT);
    headers.remove(PROXY_AUTHORIZATION);
    if websocket {
        upgrade_to_websocket(headers);
    }
    websocket
}

/// Removes the hop-by-hop headers of a response.
pub(super) fn clean_response(headers: &mut HeaderMap, switching: bool) {
    clean(headers);
    headers.remove(PROXY_AUTHENTICATE);
    headers.remove(TRANSFER_ENCODING);
    if switching {
        upgrade_to_websocket(headers);
    }
}

fn clean(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = tokens(headers, &CONNECTION)
        .filter_map(|token| token.parse().ok())
        // Without these headers, the message would have another meaning.
        .filter(|name: &HeaderName| {
            ![
                hyper::header::HOST,
                hyper::header::CONTENT_LENGTH,
                TRANSFER_ENCODING,
            ]
            .contains(name)
        })
        .collect();
    for name in named {
        headers.remove(name);
    }
    for name in [
        CONNECTION,
        KEEP_ALIVE,
        PROXY_CONNECTION,
        TE,
        UPGRADE,
        HTTP2_SETTINGS,
    ] {
        headers.remove(name);
    }
}

/// Returns whether the request asks for a WebSocket, the only allowed upgrade. After `h2c`,
/// unchecked requests could follow.
fn asks_for_websocket(headers: &HeaderMap) -> bool {
    let mut connection = tokens(headers, &CONNECTION);
    let mut protocols = tokens(headers, &UPGRADE);
    connection.any(|token| token.eq_ignore_ascii_case("upgrade"))
        && protocols
            .next()
            .is_some_and(|token| token.eq_ignore_ascii_case("websocket"))
        && protocols.next().is_none()
}

fn upgrade_to_websocket(headers: &mut HeaderMap) {
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
}

fn tokens<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| {
                (
                    HeaderName::from_static(name),
                    HeaderValue::from_static(value),
                )
            })
            .collect()
    }

    #[test]
    fn hop_by_hop_headers_are_removed() {
        let mut request = headers(&[
            ("host", "a.example"),
            ("connection", "keep-alive, X-Private, Host"),
            ("proxy-connection", "keep-alive"),
            ("proxy-authorization", "Basic eDp5"),
            ("te", "trailers"),
            ("x-private", "1"),
            ("x-public", "2"),
            ("upgrade", "h2c"),
            ("http2-settings", "AAMAAABk"),
        ]);
        assert!(!clean_request(&mut request, false));
        assert_eq!(
            request,
            headers(&[("host", "a.example"), ("x-public", "2")])
        );
    }

    #[test]
    fn http2_keeps_te_trailers() {
        for (value, kept) in [("trailers", true), ("gzip", false)] {
            let mut request = headers(&[("te", value)]);
            assert!(!clean_request(&mut request, true));
            assert_eq!(request.contains_key(TE), kept);
        }
    }

    #[test]
    fn websocket_is_only_upgrade() {
        for (connection, upgrade, expected) in [
            ("Upgrade", "websocket", true),
            ("keep-alive, upgrade", "WebSocket", true),
            ("keep-alive", "websocket", false),
            ("Upgrade", "h2c", false),
            ("Upgrade", "websocket, h2c", false),
        ] {
            let mut request = headers(&[("connection", connection), ("upgrade", upgrade)]);
            assert_eq!(
                clean_request(&mut request, false),
                expected,
                "{connection} {upgrade}"
            );
            assert_eq!(request.contains_key(UPGRADE), expected);
        }
    }
}
