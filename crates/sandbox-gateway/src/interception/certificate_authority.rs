//! The authority that one sandbox's guest trusts, and the certificates that it makes.
//!
//! Its certificate permits only the hosts of the secrets (name constraints, RFC 5280,
//! section 4.2.1.10), so that even its key could not impersonate others to the guest.

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

const COMMON_NAME: &str = "sandbox secrets gateway";
/// Days before now from which certificates are valid: the guest's clock may be behind.
const BACKDATED_DAYS: i64 = 2;
/// Days for which certificates are valid: what browsers accept, and no sandbox lives longer.
const VALID_DAYS: i64 = 390;
/// The longest common name (RFC 5280, appendix A.1).
const LONGEST_COMMON_NAME: usize = 64;
/// Certificates kept. Names below a wildcard are the guest's choice, so it could ask for any number.
const MOST_CERTIFICATES: usize = 256;

/// The key and the certificate of a sandbox's own authority.
pub struct CertificateAuthority {
    certificate_pem: String,
    private_key: Zeroizing<Vec<u8>>,
    issuer: Issuer<'static, KeyPair>,
    /// One key for all hosts: who has one has this process's memory, and so all.
    host_key: KeyPair,
    made: RefCell<HashMap<DomainName, Arc<CertifiedKey>>>,
}

impl CertificateAuthority {
    /// A new authority for these hosts: ECDSA on P-256.
    ///
    /// # Errors
    ///
    /// When a key or the certificate cannot be made.
    pub fn generate<'a>(
        hosts: impl IntoIterator<Item = &'a DomainPattern>,
    ) -> Result<Self, InterceptionError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut parameters = parameters()?;
        parameters.name_constraints = name_constraints(hosts);
        let certificate_pem = parameters.self_signed(&key)?.pem();
        Self::with_key(certificate_pem, key)
    }

    /// The authority that another process generated.
    ///
    /// # Errors
    ///
    /// When `private_key` is not what [`CertificateAuthority::private_key`] gave.
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
            made: RefCell::default(),
        })
    }

    /// The certificate for the guest's trust store, PEM.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// The key for the process that runs the gateway, PKCS #8 in DER. For a pipe or a 0600 file in
    /// the state directory, never for the guest.
    pub fn private_key(&self) -> &[u8] {
        &self.private_key
    }

    /// A certificate for `host` with its key, made at the first call.
    pub(super) fn certificate_for(
        &self,
        host: &DomainName,
    ) -> Result<Arc<CertifiedKey>, InterceptionError> {
        if let Some(made) = self.made.borrow().get(host) {
            return Ok(Arc::clone(made));
        }
        let made = Arc::new(self.make(host)?);
        let mut all = self.made.borrow_mut();
        if all.len() >= MOST_CERTIFICATES {
            all.clear();
        }
        all.insert(host.clone(), Arc::clone(&made));
        Ok(made)
    }

    fn make(&self, host: &DomainName) -> Result<CertifiedKey, InterceptionError> {
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

/// The names that the patterns can mean; `None` where a pattern does not tell.
///
/// A permitted name includes those below it, so the constraint is a little wider than a pattern.
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

    /// Whether a guest that trusts `authority` accepts the certificate made for `host`.
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
    fn certificates_are_valid_for_the_secrets_hosts_and_no_others() {
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
    fn an_expression_cannot_be_a_constraint() {
        let authority =
            CertificateAuthority::generate(&patterns(&[r"^(a|b)[0-9]\.example$"])).unwrap();
        assert!(accepted(
            &authority,
            authority.certificate_pem(),
            "a1.example"
        ));
    }

    #[test]
    fn another_process_can_go_on_with_it() {
        let first = CertificateAuthority::generate(&patterns(&["api.example"])).unwrap();
        let pem = first.certificate_pem().to_owned();
        let second = CertificateAuthority::from_parts(pem.clone(), first.private_key()).unwrap();
        assert!(accepted(&second, &pem, "api.example"));
    }

    #[test]
    fn certificates_are_kept_and_bounded() {
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
        assert!(authority.made.borrow().len() <= MOST_CERTIFICATES);
    }
}
