//! Why something is not passed on, and what its client is told.

use std::net::IpAddr;

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::header::{CONNECTION, CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};

use super::body::ResponseBody;
use super::client_hello::ClientHelloError;
use super::tls_alert::Alert;
use crate::policy_engine::HOST_NAME;
use sandbox_spec::domain::DomainName;
use sandbox_spec::policy::{Reason, RuleName};

/// A request or a connection that ends at the gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The request is not valid, or can be read in two ways.
    Malformed(&'static str),
    /// The policy denies the name or the address behind it.
    Denied {
        name: DomainName,
        port: u16,
        rule: RuleName,
        reason: Reason,
    },
    /// An address instead of a name.
    Address(Option<IpAddr>),
    /// CONNECT to a port that is not for TLS.
    Port(u16),
    /// Another name than the connection is for.
    Mismatch { expected: String, found: String },
    /// Another name in the ClientHello than CONNECT had.
    OtherName { found: DomainName },
    /// The ClientHello names no host that could be looked at.
    Hello(ClientHelloError),
    /// The name is allowed, but this address was not given out for it.
    OtherAddress { name: DomainName },
    /// A secret's placeholder on its way to a host that does not get its value.
    Secret {
        secret: String,
        name: DomainName,
        own_host: bool,
    },
    /// The host is allowed and cannot be reached, or not be trusted.
    Upstream { name: DomainName, error: String },
}

impl Refusal {
    /// The reason in the access log.
    pub(super) fn reason(&self) -> Reason {
        match self {
            Self::Malformed(_) => Reason::Malformed,
            Self::Denied { reason, .. } => *reason,
            Self::Address(_) => Reason::AddressLiteral,
            Self::Port(_) => Reason::NotTheWeb,
            Self::Mismatch { .. } | Self::OtherName { .. } | Self::OtherAddress { .. } => {
                Reason::NameMismatch
            }
            Self::Hello(error) => match error {
                ClientHelloError::NotTls
                | ClientHelloError::Malformed
                | ClientHelloError::Incomplete => Reason::Malformed,
                ClientHelloError::NoName => Reason::NoName,
                ClientHelloError::BadName => Reason::AddressLiteral,
                ClientHelloError::Fragmented | ClientHelloError::Encrypted => Reason::HiddenName,
            },
            Self::Secret { .. } => Reason::SecretElsewhere,
            Self::Upstream { .. } => Reason::Upstream,
        }
    }

    /// The rule in the access log.
    pub(super) fn rule(&self) -> RuleName {
        match self {
            Self::Denied { rule, .. } => rule.clone(),
            Self::Secret { .. } => RuleName::Secrets,
            _ => RuleName::Proxy,
        }
    }

    /// The alert for a TLS connection; `None` where nothing says that the client speaks TLS.
    pub(super) fn alert(&self) -> Option<Alert> {
        match self {
            Self::Hello(ClientHelloError::NotTls | ClientHelloError::Incomplete) => None,
            Self::Hello(ClientHelloError::NoName | ClientHelloError::BadName)
            | Self::OtherName { .. }
            | Self::OtherAddress { .. } => Some(Alert::UnrecognizedName),
            Self::Upstream { .. } => Some(Alert::InternalError),
            _ => Some(Alert::AccessDenied),
        }
    }

    fn status(&self) -> StatusCode {
        match self {
            Self::Malformed(_) => StatusCode::BAD_REQUEST,
            Self::Mismatch { .. } => StatusCode::MISDIRECTED_REQUEST,
            Self::Upstream { .. } => StatusCode::BAD_GATEWAY,
            _ => StatusCode::FORBIDDEN,
        }
    }

    /// What happened, and on a second line what can be done about it.
    fn text(&self) -> String {
        match self {
            Self::Malformed(what) => format!("bad request: {what}"),
            Self::Denied { name, port, .. } if name.as_str() == HOST_NAME => format!(
                "denied: `{name}` (port {port}) is this sandbox's host, which no list opens\n\
                 hint: start the sandbox with `--net-rule allow@host:tcp:{port}`"
            ),
            Self::Denied {
                name,
                port,
                reason: Reason::NotListed,
                ..
            } => format!(
                "denied: `{name}` (port {port}) is not on this sandbox's list\n\
                 hint: on the host, `sandbox proxy allow {name}` allows it"
            ),
            Self::Denied {
                name, port, reason, ..
            } => {
                format!("denied: `{name}` (port {port}): {reason}")
            }
            Self::Address(address) => {
                let address = address
                    .map(|address| format!(" `{address}`"))
                    .unwrap_or_default();
                format!(
                    "denied: the address{address} stands in place of a name\n\
                     hint: use a name; on the host, `sandbox proxy allow DOMAIN` allows one"
                )
            }
            Self::Port(port) => {
                format!("denied: CONNECT to port {port}: only 443 passes the proxy")
            }
            Self::Mismatch { expected, found } => {
                format!("denied: this connection is for `{expected}`, the request for `{found}`")
            }
            Self::OtherName { found } => {
                format!("denied: the ClientHello is for `{found}`, which CONNECT did not name")
            }
            Self::Hello(error) => format!("denied: {error}"),
            Self::OtherAddress { name } => format!(
                "denied: the sandbox's DNS did not give this address for `{name}`\n\
                 hint: resolve the name anew"
            ),
            Self::Secret {
                secret,
                name,
                own_host: true,
            } => format!(
                "denied: secret `{secret}` would travel in clear to `{name}`\n\
                 hint: use https://"
            ),
            Self::Secret {
                secret,
                name,
                own_host: false,
            } => format!(
                "denied: secret `{secret}` is not for `{name}`\n\
                 hint: start the sandbox with `--secret {secret}@{name}` if it is meant to be"
            ),
            Self::Upstream { name, error } => format!("could not reach `{name}`: {error}"),
        }
    }

    /// The answer to an HTTP request. After a malformed one the connection ends.
    pub(super) fn response(&self) -> Response<ResponseBody> {
        let body = Full::new(Bytes::from(format!("{}\n", self.text())))
            .map_err(|never| match never {})
            .boxed_unsync();
        let mut response = Response::new(body);
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("text/plain; charset=utf-8"),
        );
        if matches!(self, Self::Malformed(_)) {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}
