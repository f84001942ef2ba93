//! Puts values into the places of their placeholders, and finds placeholders that go misdirected.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use memchr::memmem;
use zeroize::Zeroizing;

use super::error::InterceptionError;
use sandbox_spec::domain::{DomainName, DomainPattern};
use sandbox_spec::secret::SecretSpec;

/// How every placeholder begins.
const PLACEHOLDER_PREFIX: &str = "sandbox-secret-";
/// Characters of a placeholder beyond that and the secret's name, so that none appears by chance.
const SHORTEST_UNIQUE: usize = 32;

/// All secrets of a sandbox. Its `Debug` output has no values.
#[derive(Debug, Default)]
pub struct Secrets(Vec<SecretSpec>);

/// A placeholder in a request to a host that must not get its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MisdirectedPlaceholder {
    /// The secret's name.
    pub(crate) secret: String,
    /// Whether the host would get the value over TLS.
    pub(crate) own_host: bool,
}

/// What was put into a request, so that it can be kept from coming back.
pub(crate) type InsertedValues = Vec<Zeroizing<Vec<u8>>>;

impl Secrets {
    /// The secrets of a sandbox.
    ///
    /// # Errors
    ///
    /// When two have the same name, a value cannot stand in a header (RFC 9110, section 5.5), or a
    /// placeholder is none.
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

    /// Whether some secret is for `host`, so that its connections are intercepted.
    pub fn apply_to(&self, host: &DomainName) -> bool {
        self.0.iter().any(|secret| is_for(secret, host))
    }

    /// Every host of every secret.
    pub fn hosts(&self) -> impl Iterator<Item = &DomainPattern> {
        self.0.iter().flat_map(|secret| &secret.hosts)
    }

    /// Looks for placeholders in a request that goes out in the clear.
    ///
    /// # Errors
    ///
    /// When there is one: no value travels without TLS.
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

    /// Replaces the placeholders of the secrets that are for `host` in all header values, and tells
    /// what was put in. A placeholder in the target is left: it is not secret.
    ///
    /// # Errors
    ///
    /// When the request carries the placeholder of a secret that is not for `host`.
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

/// The header value with the secret in it; `None` where the placeholder is not.
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
    // HTTP/2 keeps such values out of its compression tables.
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

/// `user:password` of an `Authorization: Basic` (RFC 7617), if it holds a placeholder at all.
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
