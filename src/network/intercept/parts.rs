//! What an interceptor is made from, on its way from the command that starts a
//! sandbox to the process that runs its gateway: through a pipe, never through
//! a file or a command line.

use std::fmt;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{CertificateAuthority, InterceptError, Interceptor, Secret, Secrets};
use crate::network::domain::DomainPattern;

/// Bytes that `Debug` does not show and that are wiped when they are dropped.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Private(Zeroizing<Vec<u8>>);

impl Private {
    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl From<Vec<u8>> for Private {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }
}

impl fmt::Debug for Private {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("(private)")
    }
}

/// One secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretParts {
    /// The variable that holds the placeholder in the guest.
    pub name: String,
    /// What the guest gets instead of the value.
    pub placeholder: String,
    /// The value.
    pub value: Private,
    /// The hosts that get the value.
    pub hosts: Vec<DomainPattern>,
}

/// Secrets, and the authority whose certificate the guest trusts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interception {
    /// The authority's certificate, PEM.
    pub certificate: String,
    /// The authority's key, PKCS #8 in DER.
    pub private_key: Private,
    /// The secrets.
    pub secrets: Vec<SecretParts>,
}

impl Interception {
    /// A new authority for these secrets.
    ///
    /// # Errors
    ///
    /// When a secret is not usable, or no certificate can be made.
    pub fn new(secrets: Vec<SecretParts>) -> Result<Self, InterceptError> {
        let checked = Self::secrets(secrets.clone())?;
        let authority = CertificateAuthority::generate(checked.hosts())?;
        Ok(Self {
            certificate: authority.certificate_pem().to_owned(),
            private_key: authority.private_key().to_vec().into(),
            secrets,
        })
    }

    /// What it describes.
    ///
    /// # Errors
    ///
    /// When it was not made by [`Interception::new`], or this host trusts no
    /// authority.
    pub fn interceptor(self) -> Result<Interceptor, InterceptError> {
        let Self {
            certificate,
            private_key,
            secrets,
        } = self;
        let authority = CertificateAuthority::from_parts(certificate, private_key.bytes())?;
        Interceptor::new(Self::secrets(secrets)?, authority)
    }

    fn secrets(parts: Vec<SecretParts>) -> Result<Secrets, InterceptError> {
        let secrets = parts.into_iter().map(|parts| {
            Secret::with_placeholder(&parts.name, parts.placeholder, parts.value.0, parts.hosts)
        });
        Secrets::new(secrets.collect::<Result<_, _>>()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_travels_is_the_same_at_the_other_end_and_never_shown() {
        let secret = SecretParts {
            name: "TOKEN".into(),
            placeholder: "sandbox-secret-TOKEN-0".into(),
            value: b"hidden".to_vec().into(),
            hosts: vec!["api.example.com".parse().unwrap()],
        };
        let interception = Interception::new(vec![secret]).unwrap();
        let shown = format!("{interception:?}");
        assert!(
            !shown.contains("104, 105") && !shown.contains("hidden"),
            "{shown}"
        );
        let text = serde_json::to_string(&interception).unwrap();
        let other: Interception = serde_json::from_str(&text).unwrap();
        assert_eq!(other, interception);
        CertificateAuthority::from_parts(other.certificate, other.private_key.bytes()).unwrap();
    }
}
