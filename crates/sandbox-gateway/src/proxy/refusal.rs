//! Denied requests and connections, and the response to the client.

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

/// The reason for denying a request or a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The request is invalid or ambiguous.
    Malformed(&'static str),
    /// The policy denies the name or its address.
    Denied {
        name: DomainName,
        port: u16,
        rule: RuleName,
        reason: Reason,
    },
    /// The request names an address instead of a host name.
    Address(Option<IpAddr>),
    /// CONNECT to another port than 443.
    Port(u16),
    /// The request names another host than the connection.
    Mismatch { expected: String, found: String },
    /// The ClientHello names another host than CONNECT.
    OtherName { found: DomainName },
    /// The ClientHello has no acceptable name.
    Hello(ClientHelloError),
    /// The name is allowed, but the gateway's DNS did not resolve it to this address.
    OtherAddress { name: DomainName },
    /// The request has a placeholder, and its host does not get the value.
    Secret {
        secret: String,
        name: DomainName,
        own_host: bool,
    },
    /// The host is allowed, but could not be reached or verified.
    Upstream { name: DomainName, error: String },
}

impl Refusal {
    /// Returns the reason for the access log.
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

    /// Returns the rule for the access log.
    pub(super) fn rule(&self) -> RuleName {
        match self {
            Self::Denied { rule, .. } => rule.clone(),
            Self::Secret { .. } => RuleName::Secrets,
            _ => RuleName::Proxy,
        }
    }

    /// Returns the alert for a TLS connection, or `None` if the client may not speak TLS.
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

    /// Returns the text of the response. A second line can have a hint.
    fn text(&self) -> String {
        match self {
            Self::Malformed(what) => format!("bad request: {what}"),
            Self::Denied { name, port, .. } if name.as_str() == HOST_NAME => format!(
                "denied: `{name}` (port {port}) is this sandbox's host, which needs a rule\n\
                 hint: start the sandbox with `--net-rule allow@host:tcp:{port}`"
            ),
            Self::Denied {
                name,
                port,
                reason: Reason::NotListed,
                ..
            } => format!(
                "denied: `{name}` (port {port}) is not on this sandbox's allowlist\n\
                 hint: run `sandbox proxy allow {name}` on the host"
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
                    "denied: the request has the address{address} instead of a name\n\
                     hint: use a name, and run `sandbox proxy allow DOMAIN` on the host"
                )
            }
            Self::Port(port) => {
                format!("denied: CONNECT to port {port}: the proxy allows only 443")
            }
            Self::Mismatch { expected, found } => {
                format!("denied: the connection is for `{expected}`, but the request for `{found}`")
            }
            Self::OtherName { found } => {
                format!("denied: the ClientHello is for `{found}`, but CONNECT named another host")
            }
            Self::Hello(error) => format!("denied: {error}"),
            Self::OtherAddress { name } => format!(
                "denied: the sandbox's DNS did not give this address for `{name}`\n\
                 hint: resolve the name again"
            ),
            Self::Secret {
                secret,
                name,
                own_host: true,
            } => format!(
                "denied: the request sends secret `{secret}` to `{name}` in plaintext\n\
                 hint: use https://"
            ),
            Self::Secret {
                secret,
                name,
                own_host: false,
            } => format!(
                "denied: secret `{secret}` is not for `{name}`\n\
                 hint: start the sandbox with `--secret {secret}@{name}` to allow it"
            ),
            Self::Upstream { name, error } => format!("could not reach `{name}`: {error}"),
        }
    }

    /// Returns the response to an HTTP request. A malformed request also closes the connection.
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
