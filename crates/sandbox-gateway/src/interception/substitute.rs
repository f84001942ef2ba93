//! Replaces placeholders with values, and finds placeholders in requests to other hosts.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use memchr::memmem;
use zeroize::Zeroizing;

use super::error::InterceptionError;
use sandbox_spec::domain::{DomainName, DomainPattern};
use sandbox_spec::secret::SecretSpec;

/// The prefix of every placeholder.
const PLACEHOLDER_PREFIX: &str = "sandbox-secret-";
/// The shortest random part of a placeholder. It must not occur by chance.
const SHORTEST_UNIQUE: usize = 32;

/// The secrets of one sandbox. The `Debug` output has no values.
#[derive(Debug, Default)]
pub struct Secrets(Vec<SecretSpec>);

/// A placeholder in a request to a host that must not get the value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MisdirectedPlaceholder {
    /// The name of the secret.
    pub(crate) secret: String,
    /// Whether the host gets the value over TLS.
    pub(crate) own_host: bool,
}

/// The values in a request. The proxy masks them in the response.
pub(crate) type InsertedValues = Vec<Zeroizing<Vec<u8>>>;

impl Secrets {
    /// Validates the secrets of a sandbox.
    ///
    /// # Errors
    ///
    /// If two have the same name, a value is invalid in a header (RFC 9110, section 5.5), or a
    /// placeholder is invalid.
    pub fn new(secrets: Vec<SecretSpec>) -> Result<Self, InterceptionError> {
        for (index, secret) in secrets.iter().enumerate() {
            let same = |other: &SecretSpec| other.name == secret.name;
            if secrets.iter().skip(index + 1).any(same) {
                return Err(InterceptionError::DuplicateName(secret.name.clone()));
            }
            let value = secret.value.expose();
            if value.is_empty() || HeaderValue::from_str(value).is_err() {
                return Err(InterceptionError::InvalidValue(secret.name.clone()));
            }
            let unique = secret.placeholder.strip_prefix(PLACEHOLDER_PREFIX);
            if unique.is_none_or(|unique| unique.len() < secret.name.len() + SHORTEST_UNIQUE) {
                return Err(InterceptionError::InvalidPlaceholder(secret.name.clone()));
            }
        }
        Ok(Self(secrets))
    }

    /// Returns whether a secret is for `host`. The proxy intercepts TLS to such hosts.
    pub fn apply_to(&self, host: &DomainName) -> bool {
        self.0.iter().any(|secret| is_for(secret, host))
    }

    /// Returns the hosts of all secrets.
    pub fn hosts(&self) -> impl Iterator<Item = &DomainPattern> {
        self.0.iter().flat_map(|secret| &secret.hosts)
    }

    /// Checks that a plaintext request has no placeholder. Values need TLS.
    ///
    /// # Errors
    ///
    /// The placeholder, if there is one.
    pub(crate) fn refuse_in_plaintext(
        &self,
        request: &Parts,
        host: &DomainName,
    ) -> Result<(), MisdirectedPlaceholder> {
        match self.0.iter().find(|secret| is_in_request(secret, request)) {
            None => Ok(()),
            Some(secret) => Err(MisdirectedPlaceholder {
                secret: secret.name.clone(),
                own_host: is_for(secret, host),
            }),
        }
    }

    /// Replaces the placeholders of the host's secrets in all header values. Returns the inserted
    /// values. A placeholder in the request target stays: it is not secret.
    ///
    /// # Errors
    ///
    /// If the request has the placeholder of a secret for another host.
    pub(crate) fn substitute(
        &self,
        request: &mut Parts,
        host: &DomainName,
    ) -> Result<InsertedValues, MisdirectedPlaceholder> {
        let (own, foreign): (Vec<_>, Vec<_>) =
            self.0.iter().partition(|secret| is_for(secret, host));
        if let Some(secret) = foreign.iter().find(|secret| is_in_request(secret, request)) {
            return Err(MisdirectedPlaceholder {
                secret: secret.name.clone(),
                own_host: false,
            });
        }
        let mut inserted = InsertedValues::new();
        for (name, value) in request.headers.iter_mut() {
            for secret in &own {
                if let Some(replaced) = replace(secret, name, value, &mut inserted) {
                    *value = replaced;
                }
            }
        }
        Ok(inserted)
    }
}

fn is_for(secret: &SecretSpec, host: &DomainName) -> bool {
    secret.hosts.iter().any(|pattern| pattern.matches(host))
}

fn is_in_request(secret: &SecretSpec, request: &Parts) -> bool {
    let uri = request.uri.to_string();
    contains(uri.as_bytes(), secret) || is_in_headers(secret, &request.headers)
}

fn is_in_headers(secret: &SecretSpec, headers: &HeaderMap) -> bool {
    headers.iter().any(|(name, value)| {
        contains(value.as_bytes(), secret)
            || basic_credentials(name, value).is_some_and(|plain| contains(&plain, secret))
    })
}

fn contains(bytes: &[u8], secret: &SecretSpec) -> bool {
    memmem::find(bytes, secret.placeholder.as_bytes()).is_some()
}

/// Returns the header value with the secret's value, or `None` if it has no placeholder.
fn replace(
    secret: &SecretSpec,
    name: &HeaderName,
    value: &HeaderValue,
    inserted: &mut InsertedValues,
) -> Option<HeaderValue> {
    let replaced = if contains(value.as_bytes(), secret) {
        replace_all(value.as_bytes(), secret)
    } else {
        let plain = basic_credentials(name, value).filter(|plain| contains(plain, secret))?;
        let encoded = Zeroizing::new(STANDARD.encode(&*replace_all(&plain, secret)));
        inserted.push(Zeroizing::new(encoded.as_bytes().to_vec()));
        Zeroizing::new([b"Basic ", encoded.as_bytes()].concat())
    };
    inserted.push(Zeroizing::new(secret.value.expose().as_bytes().to_vec()));
    let mut header = HeaderValue::from_bytes(&replaced).expect("values hold no control characters");
    // HTTP/2 does not store sensitive values in its compression tables (RFC 7541, section 7.1.3).
    header.set_sensitive(true);
    Some(header)
}

fn replace_all(bytes: &[u8], secret: &SecretSpec) -> Zeroizing<Vec<u8>> {
    let placeholder = secret.placeholder.as_bytes();
    let mut replaced = Zeroizing::new(Vec::with_capacity(
        bytes.len() + secret.value.expose().len(),
    ));
    let mut copied = 0;
    for start in memmem::find_iter(bytes, placeholder) {
        replaced.extend_from_slice(&bytes[copied..start]);
        replaced.extend_from_slice(secret.value.expose().as_bytes());
        copied = start + placeholder.len();
    }
    replaced.extend_from_slice(&bytes[copied..]);
    replaced
}

/// Returns the `user:password` of `Authorization: Basic` (RFC 7617), if it has a placeholder.
fn basic_credentials(name: &HeaderName, value: &HeaderValue) -> Option<Zeroizing<Vec<u8>>> {
    if name != AUTHORIZATION {
        return None;
    }
    let (scheme, credentials) = value.to_str().ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let plain = Zeroizing::new(STANDARD.decode(credentials.trim()).ok()?);
    memmem::find(&plain, PLACEHOLDER_PREFIX.as_bytes())?;
    Some(plain)
}

#[cfg(test)]
mod tests;
