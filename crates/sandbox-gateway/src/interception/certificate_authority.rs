//! The certificate authority that the guest of one sandbox trusts.
//!
//! Its certificate permits only the hosts of the secrets (name constraints, RFC 5280,
//! section 4.2.1.10). So even its key cannot impersonate other hosts to the guest.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use jiff::{Span, Zoned};
use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DnType, ExtendedKeyUsagePurpose,
    GeneralSubtree, IsCa, Issuer, KeyPair, KeyUsagePurpose, NameConstraints,
    PKCS_ECDSA_P256_SHA256, date_time_ymd,
};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;
use zeroize::Zeroizing;

use super::error::InterceptionError;
use sandbox_spec::domain::{DomainName, DomainPattern};

/// The subject of the authority's certificate.
const COMMON_NAME: &str = "sandbox secrets gateway";
/// The days before today at which a certificate becomes valid. The guest's clock can be slow.
const BACKDATED_DAYS: i64 = 2;
/// The days for which a certificate is valid. Browsers accept it, and no sandbox lives longer.
const VALID_DAYS: i64 = 390;
/// The longest common name (RFC 5280, appendix A.1).
const LONGEST_COMMON_NAME: usize = 64;
/// The most cached certificates. The guest can request any number of names below a wildcard.
const MOST_CERTIFICATES: usize = 256;

/// The key and the certificate of one sandbox's authority, and the certificates that it issued.
pub struct CertificateAuthority {
    certificate_pem: String,
    private_key: Zeroizing<Vec<u8>>,
    issuer: Issuer<'static, KeyPair>,
    /// One key for all hosts. A process that can read one key can read all of them.
    host_key: KeyPair,
    issued: RefCell<HashMap<DomainName, Arc<CertifiedKey>>>,
}

impl CertificateAuthority {
    /// Generates an authority for these hosts, with ECDSA on P-256.
    ///
    /// # Errors
    ///
    /// If the key or the certificate cannot be generated.
    pub fn generate<'a>(
        hosts: impl IntoIterator<Item = &'a DomainPattern>,
    ) -> Result<Self, InterceptionError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut parameters = parameters()?;
        parameters.name_constraints = name_constraints(hosts);
        let certificate_pem = parameters.self_signed(&key)?.pem();
        Self::with_key(certificate_pem, key)
    }

    /// Restores an authority that another process generated.
    ///
    /// # Errors
    ///
    /// If `private_key` is not a key of [`CertificateAuthority::private_key`].
    pub fn from_parts(
        certificate_pem: String,
        private_key: &[u8],
    ) -> Result<Self, InterceptionError> {
        let key = KeyPair::from_pkcs8_der_and_sign_algo(
            &PrivatePkcs8KeyDer::from(private_key),
            &PKCS_ECDSA_P256_SHA256,
        )?;
        Self::with_key(certificate_pem, key)
    }

    fn with_key(certificate_pem: String, key: KeyPair) -> Result<Self, InterceptionError> {
        Ok(Self {
            certificate_pem,
            private_key: Zeroizing::new(key.serialize_der()),
            issuer: Issuer::new(parameters()?, key),
            host_key: KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?,
            issued: RefCell::default(),
        })
    }

    /// Returns the certificate for the guest's trust store, in PEM.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// Returns the private key for the process that runs the gateway, in PKCS #8 DER. It may go
    /// through a pipe or a 0600 file in the state directory, never to the guest.
    pub fn private_key(&self) -> &[u8] {
        &self.private_key
    }

    /// Returns the certificate for `host` with its key. Issues it at the first call.
    pub(super) fn certificate_for(
        &self,
        host: &DomainName,
    ) -> Result<Arc<CertifiedKey>, InterceptionError> {
        if let Some(issued) = self.issued.borrow().get(host) {
            return Ok(Arc::clone(issued));
        }
        let issued = Arc::new(self.issue(host)?);
        let mut all = self.issued.borrow_mut();
        if all.len() >= MOST_CERTIFICATES {
            all.clear();
        }
        all.insert(host.clone(), Arc::clone(&issued));
        Ok(issued)
    }

    fn issue(&self, host: &DomainName) -> Result<CertifiedKey, InterceptionError> {
        let mut parameters = CertificateParams::new([host.to_string()])?;
        limit_validity(&mut parameters);
        parameters.distinguished_name = rcgen::DistinguishedName::new();
        if host.as_str().len() <= LONGEST_COMMON_NAME {
            parameters
                .distinguished_name
                .push(DnType::CommonName, host.as_str());
        }
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        parameters.use_authority_key_identifier_extension = true;
        let certificate = parameters.signed_by(&self.host_key, &self.issuer)?;
        let key = PrivateKeyDer::Pkcs8(self.host_key.serialize_der().into());
        let key = rustls::crypto::ring::sign::any_ecdsa_type(&key)?;
        Ok(CertifiedKey::new(vec![certificate.der().clone()], key))
    }
}

impl fmt::Debug for CertificateAuthority {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("CertificateAuthority")
            .finish_non_exhaustive()
    }
}

fn parameters() -> Result<CertificateParams, InterceptionError> {
    let mut parameters = CertificateParams::new(Vec::new())?;
    limit_validity(&mut parameters);
    parameters.distinguished_name = rcgen::DistinguishedName::new();
    parameters
        .distinguished_name
        .push(DnType::CommonName, COMMON_NAME);
    parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(parameters)
}

/// Returns the name constraints for the patterns, or `None` if one is a regular expression.
///
/// A permitted name includes the names below it, so a constraint can allow more than its pattern.
fn name_constraints<'a>(
    hosts: impl IntoIterator<Item = &'a DomainPattern>,
) -> Option<NameConstraints> {
    let permitted = |pattern: &DomainPattern| match pattern {
        DomainPattern::Exact(name) | DomainPattern::Below(name) | DomainPattern::Tree(name) => {
            Some(GeneralSubtree::DnsName(name.to_string()))
        }
        DomainPattern::Expression(_) => None,
    };
    let permitted_subtrees = hosts
        .into_iter()
        .map(permitted)
        .collect::<Option<Vec<_>>>()?;
    Some(NameConstraints {
        permitted_subtrees,
        excluded_subtrees: vec![
            GeneralSubtree::IpAddress(CidrSubnet::V4([0; 4], [0; 4])),
            GeneralSubtree::IpAddress(CidrSubnet::V6([0; 16], [0; 16])),
        ],
    })
}

fn limit_validity(parameters: &mut CertificateParams) {
    let today = Zoned::now();
    let after = |days: i64| {
        let date = today.saturating_add(Span::new().days(days)).date();
        date_time_ymd(
            date.year().into(),
            date.month().unsigned_abs(),
            date.day().unsigned_abs(),
        )
    };
    parameters.not_before = after(-BACKDATED_DAYS);
    parameters.not_after = after(VALID_DAYS);
}

#[cfg(test)]
mod tests {
    use rustls::RootCertStore;
    use rustls::client::WebPkiServerVerifier;
    use rustls::client::danger::ServerCertVerifier;
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, ServerName, UnixTime};

    use super::*;

    fn patterns(hosts: &[&str]) -> Vec<DomainPattern> {
        hosts.iter().map(|host| host.parse().unwrap()).collect()
    }

    /// Returns whether a guest that trusts `trusted` accepts the certificate for `host`.
    fn accepted(authority: &CertificateAuthority, trusted: &str, host: &str) -> bool {
        let certificate = authority.certificate_for(&host.parse().unwrap()).unwrap();
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(trusted.as_bytes()).unwrap())
            .unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .unwrap()
            .verify_server_cert(
                certificate.end_entity_cert().unwrap(),
                &[],
                &ServerName::try_from(host.to_owned()).unwrap(),
                &[],
                UnixTime::now(),
            )
            .is_ok()
    }

    #[test]
    fn certificates_are_valid_for_hosts_of_secrets_only() {
        let authority =
            CertificateAuthority::generate(&patterns(&["api.example", "*.b.example"])).unwrap();
        let trusted = authority.certificate_pem();
        assert!(accepted(&authority, trusted, "api.example"));
        assert!(accepted(&authority, trusted, "x.y.b.example"));
        assert!(!accepted(&authority, trusted, "other.example"));
        let other = CertificateAuthority::generate(&patterns(&["api.example"])).unwrap();
        assert!(!accepted(&other, trusted, "api.example"));
    }

    #[test]
    fn expression_disables_name_constraints() {
        let authority =
            CertificateAuthority::generate(&patterns(&[r"^(a|b)[0-9]\.example$"])).unwrap();
        assert!(accepted(
            &authority,
            authority.certificate_pem(),
            "a1.example"
        ));
    }

    #[test]
    fn restored_authority_issues_valid_certificates() {
        let first = CertificateAuthority::generate(&patterns(&["api.example"])).unwrap();
        let pem = first.certificate_pem().to_owned();
        let second = CertificateAuthority::from_parts(pem.clone(), first.private_key()).unwrap();
        assert!(accepted(&second, &pem, "api.example"));
    }

    #[test]
    fn certificate_cache_is_bounded() {
        let authority = CertificateAuthority::generate(&patterns(&[".b.example"])).unwrap();
        let host = "x.b.example".parse().unwrap();
        let first = authority.certificate_for(&host).unwrap();
        assert!(Arc::ptr_eq(
            &first,
            &authority.certificate_for(&host).unwrap()
        ));
        for number in 0..MOST_CERTIFICATES {
            authority
                .certificate_for(&format!("h{number}.b.example").parse().unwrap())
                .unwrap();
        }
        assert!(authority.issued.borrow().len() <= MOST_CERTIFICATES);
    }
}
