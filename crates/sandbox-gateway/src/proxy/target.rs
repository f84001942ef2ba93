//! The target of a request. The target and `Host` must agree.
//!
//! RFC 9112, sections 3.2 and 3.3; RFC 9113, section 8.3.1.

use hyper::header::HOST;
use hyper::http::request::Parts;
use hyper::http::uri::Scheme;
use hyper::{Method, Version};

use super::authority::{Authority, AuthorityError};
use super::refusal::Refusal;

/// The target of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) form: Form,
    pub(super) authority: Authority,
}

/// The form of the target (RFC 9112, section 3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// `GET /path`, as to an origin server, and all requests of HTTP/2.
    Origin,
    /// `GET http://host/path`, as to a proxy.
    Absolute,
    /// `CONNECT host:port`.
    Connect,
}

const HTTP_PORT: u16 = 80;
const HTTPS_PORT: u16 = 443;

/// Returns the target of a request.
///
/// # Errors
///
/// If it names no host, an invalid host, or two different hosts.
pub(super) fn read(request: &Parts) -> Result<Target, Refusal> {
    let host = host_header(request)?;
    if request.method == Method::CONNECT {
        return connect(request, host);
    }
    let Some(written) = request.uri.authority() else {
        let authority = host.ok_or(Refusal::Malformed("the request has no Host header"))?;
        return Ok(Target {
            form: Form::Origin,
            authority,
        });
    };
    let authority = Authority::parse(written.as_str()).map_err(malformed)?;
    let default_port = match request.uri.scheme() {
        Some(scheme) if *scheme == Scheme::HTTPS => HTTPS_PORT,
        Some(scheme) if *scheme == Scheme::HTTP => HTTP_PORT,
        _ => {
            return Err(Refusal::Malformed(
                "only http:// and https:// are supported",
            ));
        }
    };
    agree(host, &authority, default_port)?;
    let form = match request.version {
        Version::HTTP_2 => Form::Origin,
        _ => Form::Absolute,
    };
    Ok(Target { form, authority })
}

fn connect(request: &Parts, host: Option<Authority>) -> Result<Target, Refusal> {
    let written = request
        .uri
        .authority()
        .ok_or(Refusal::Malformed("CONNECT without host and port"))?;
    let authority = Authority::parse(written.as_str()).map_err(malformed)?;
    let port = authority
        .port
        .ok_or(Refusal::Malformed("CONNECT without a port"))?;
    agree(host, &authority, port)?;
    Ok(Target {
        form: Form::Connect,
        authority,
    })
}

/// Returns the only `Host` header.
fn host_header(request: &Parts) -> Result<Option<Authority>, Refusal> {
    let mut values = request.headers.get_all(HOST).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err(Refusal::Malformed("the request has two Host headers"));
    }
    let text = value
        .to_str()
        .map_err(|_| malformed(AuthorityError::Host))?;
    Authority::parse(text).map(Some).map_err(malformed)
}

fn agree(host: Option<Authority>, target: &Authority, default_port: u16) -> Result<(), Refusal> {
    let port = |authority: &Authority| authority.port.unwrap_or(default_port);
    match host {
        Some(host) if host.host != target.host || port(&host) != port(target) => Err(
            Refusal::Malformed("the Host header names another host than the target"),
        ),
        _ => Ok(()),
    }
}

fn malformed(error: AuthorityError) -> Refusal {
    Refusal::Malformed(match error {
        AuthorityError::UserInfo => "userinfo before the host is not accepted",
        AuthorityError::Host => "invalid host",
        AuthorityError::Port => "invalid port",
    })
}

#[cfg(test)]
mod tests {
    use hyper::Request;

    use super::*;

    fn read_request(method: &str, uri: &str, hosts: &[&str]) -> Result<Target, Refusal> {
        let mut request = Request::builder().method(method).uri(uri);
        for host in hosts {
            request = request.header(HOST, *host);
        }
        read(&request.body(()).unwrap().into_parts().0)
    }

    #[test]
    fn target_and_host_agree() {
        for (method, uri, hosts, form, authority) in [
            ("GET", "/x", &["A.example."][..], Form::Origin, "a.example"),
            (
                "GET",
                "http://a.example/x",
                &["a.example:80"],
                Form::Absolute,
                "a.example",
            ),
            (
                "GET",
                "http://a.example:8080/",
                &["a.example:8080"],
                Form::Absolute,
                "a.example:8080",
            ),
            ("GET", "http://a.example/", &[], Form::Absolute, "a.example"),
            (
                "CONNECT",
                "a.example:443",
                &["a.example"],
                Form::Connect,
                "a.example:443",
            ),
            (
                "CONNECT",
                "[::1]:443",
                &["[::1]:443"],
                Form::Connect,
                "[::1]:443",
            ),
        ] {
            let authority = Authority::parse(authority).unwrap();
            assert_eq!(
                read_request(method, uri, hosts).unwrap(),
                Target { form, authority }
            );
        }
    }

    #[test]
    fn ambiguous_targets_are_rejected() {
        for (method, uri, hosts) in [
            ("GET", "/", &[][..]),
            ("GET", "/", &["a.example", "a.example"]),
            ("GET", "/", &["user@a.example"]),
            ("GET", "/", &["a.example/"]),
            ("GET", "/", &[""]),
            ("GET", "http://a.example/", &["b.example"]),
            ("GET", "http://a.example/", &["a.example:8080"]),
            ("GET", "http://user:pw@a.example/", &["a.example"]),
            ("GET", "ftp://a.example/", &["a.example"]),
            ("CONNECT", "a.example:443", &["b.example:443"]),
            ("CONNECT", "a.example", &["a.example"]),
        ] {
            let read = read_request(method, uri, hosts);
            assert!(
                matches!(read, Err(Refusal::Malformed(_))),
                "{method} {uri} {hosts:?} {read:?}"
            );
        }
    }
}
