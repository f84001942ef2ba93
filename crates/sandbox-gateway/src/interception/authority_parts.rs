//! The serialized authority. The command that starts a sandbox sends it to the gateway's process
//! through a pipe, never through a file or a command line.

use std::fmt;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::certificate_authority::CertificateAuthority;
use super::error::InterceptionError;
use super::interceptor::Interceptor;
use super::substitute::Secrets;
use sandbox_spec::secret::SecretSpec;

/// Bytes that `Debug` does not print. They are wiped when they are dropped.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PrivateBytes(Zeroizing<Vec<u8>>);

impl fmt::Debug for PrivateBytes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("(private)")
    }
}

/// The serialized authority of one sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuthorityParts {
    /// The certificate for the guest's trust store, in PEM.
    pub certificate: String,
    /// The private key, in PKCS #8 DER.
    pub private_key: PrivateBytes,
}

impl AuthorityParts {
    /// Generates an authority for the hosts of these secrets.
    ///
    /// # Errors
    ///
    /// If the key or the certificate cannot be generated.
    pub fn generate(secrets: &[SecretSpec]) -> Result<Self, InterceptionError> {
        let hosts = secrets.iter().flat_map(|secret| &secret.hosts);
        let authority = CertificateAuthority::generate(hosts)?;
        Ok(Self {
            certificate: authority.certificate_pem().to_owned(),
            private_key: PrivateBytes(Zeroizing::new(authority.private_key().to_vec())),
        })
    }

    /// Returns the interceptor for the hosts of these secrets.
    ///
    /// # Errors
    ///
    /// If a secret is invalid, or this host trusts no authority.
    pub fn interceptor(self, secrets: Vec<SecretSpec>) -> Result<Interceptor, InterceptionError> {
        let secrets = Secrets::new(secrets)?;
        let Self {
            certificate,
            private_key,
        } = self;
        let authority = CertificateAuthority::from_parts(certificate, &private_key.0)?;
        Interceptor::new(secrets, authority)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sandbox_spec::secret::SecretRequest;

    #[test]
    fn authority_parts_survive_serialization_and_hide_key() {
        let secret = SecretRequest::of_variable("TOKEN@api.example.com").unwrap();
        let secret = secret.resolve(|_| Some("hidden".into())).unwrap();
        let parts = AuthorityParts::generate(&[secret]).unwrap();
        let key = parts.private_key.0.clone();
        let bytes = format!("{}, {}, {}", key[40], key[41], key[42]);
        assert!(!format!("{parts:?}").contains(&bytes));
        let text = serde_json::to_string(&parts).unwrap();
        let other: AuthorityParts = serde_json::from_str(&text).unwrap();
        assert_eq!(other, parts);
        CertificateAuthority::from_parts(other.certificate, &other.private_key.0).unwrap();
    }
}
